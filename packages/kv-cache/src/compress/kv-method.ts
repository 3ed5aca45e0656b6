import { withDefaults, type MethodOptions, type Widened } from '@filigree/sparse-attention';
import type { Compressor } from './compressor.js';

/** A published method of keeping less of the cache. Docs, CLI, evaluation and tests enumerate the list of them. */
export interface KvMethod {
  readonly id: string;
  readonly title: string;
  readonly paper: string;
  /** When it acts. */
  readonly phase: 'prefill' | 'decode' | 'both';
  readonly training: 'none' | 'calibration' | 'full';
  /** Whether what it keeps serves any question. */
  readonly queryAgnostic: boolean;
  /** Whether heads of a layer keep different numbers of entries. */
  readonly ragged: boolean;
  /** Defaults, which also say what types the options have. */
  readonly options: MethodOptions;
  /** @throws OptionError naming an unknown option, one of another type than its default, or one out of range. */
  create(options?: MethodOptions): Compressor;
}

/** A method whose `compressor` gets every option, checked for name and type; ranges are its own to check. */
export function defineKvMethod<const O extends MethodOptions>(
  method: Omit<KvMethod, 'options' | 'create'> & {
    readonly options: O;
    readonly compressor: (options: Widened<O>) => Compressor;
  },
): KvMethod & { readonly options: O } {
  const { compressor, ...rest } = method;
  return {
    ...rest,
    create(options = {}) {
      return compressor(withDefaults(method.id, method.options, options));
    },
  };
}
