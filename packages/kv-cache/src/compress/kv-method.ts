import { OptionError } from '@filigree/core-tensor';
import { withDefaults, type MethodOptions, type Widened } from '@filigree/sparse-attention';
import type { Compressor } from './compressor.js';
import type { KvPlan } from './kv-plan.js';

/** A published method of keeping less of the cache. Docs, CLI, evaluation and tests enumerate the list of them. */
export interface KvMethod {
  readonly id: string;
  readonly title: string;
  readonly paper: string;
  /** When it acts. */
  readonly phase: 'prefill' | 'decode' | 'both';
  readonly training: 'none' | 'calibration' | 'full';
  /** Whether it works by a plan of the model's heads, which the calibration of its name makes. */
  readonly planned: boolean;
  /** Whether what it keeps serves any question. */
  readonly queryAgnostic: boolean;
  /** Whether heads of a layer keep different numbers of entries. */
  readonly ragged: boolean;
  /** Defaults, which also say what types the options have. */
  readonly options: MethodOptions;
  /** @throws OptionError naming an unknown option, one of another type than its default, or one out of range; without a plan that it needs, or with one that it does not take. */
  create(options?: MethodOptions, plan?: KvPlan): Compressor;
}

type Described<O> = Omit<KvMethod, 'options' | 'create' | 'planned'> & { readonly options: O };

/** A method whose `compressor` gets every option, checked for name and type; ranges are its own to check. */
export function defineKvMethod<const O extends MethodOptions>(
  method: Described<O> & { readonly compressor: (options: Widened<O>) => Compressor },
): KvMethod & { readonly options: O } {
  const { compressor, ...rest } = method;
  return {
    ...rest,
    planned: false,
    create(options = {}, plan) {
      if (plan) throw new OptionError(`${method.id}: it takes no plan`);
      return compressor(withDefaults(method.id, method.options, options));
    },
  };
}

/** The same for a method that needs a plan of the model's heads. */
export function definePlannedKvMethod<const O extends MethodOptions>(
  method: Described<O> & { readonly compressor: (plan: KvPlan, options: Widened<O>) => Compressor },
): KvMethod & { readonly options: O } {
  const { compressor, ...rest } = method;
  return {
    ...rest,
    planned: true,
    create(options = {}, plan) {
      const all = withDefaults(method.id, method.options, options);
      if (plan) return compressor(plan, all);
      throw new OptionError(
        `${method.id}: it needs a plan of the model's heads; \`filigree calibrate --method ${method.id}\` and kvCalibrations make one`,
      );
    },
  };
}
