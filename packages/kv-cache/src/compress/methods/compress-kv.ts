import { OptionError } from '@filigree/core-tensor';
import { checkIntegers } from '@filigree/sparse-attention';
import { ascending, largest, shared } from '../allocate.js';
import { uniform } from '../budgets.js';
import { compressor, type Budget, type ScoredCompressor } from '../compressor.js';
import { definePlannedKvMethod } from '../kv-method.js';
import { figuresOf, type KvPlan } from '../kv-plan.js';
import { attentionReceived } from '../probabilities.js';
import { readRows } from '../rows.js';

/** What calibration says about a model. */
export interface CompressKvCalibration {
  /** Query heads of every layer that vote: those that look at the meaning of what is asked for. */
  readonly heads: readonly (readonly number[])[];
  /** How much the output of a layer changes when its cache is compressed; undefined: all layers alike. */
  readonly errors?: readonly number[] | undefined;
}

export interface CompressKvOptions {
  /** Entries that are kept, the window among them, on average over the layers: a number, or a share of the prompt below 1. */
  readonly budget: number;
  /** Queries at the end of the prompt that vote; their entries stay. */
  readonly window: number;
  /** Odd number of neighbouring entries whose votes are pooled. */
  readonly kernel: number;
  /** Entries that every layer keeps. */
  readonly minPerLayer: number;
}

/** Defaults of the paper. */
export const compressKvDefaults = { budget: 2048, window: 8, kernel: 5, minPerLayer: 32 } as const;

/**
 * CompressKV: a few heads of a layer choose for all of them, one list per layer, and layers whose output suffers most keep most.
 * Lin et al., "CompressKV: Semantic Retrieval Heads Know What Tokens are Not Important Before Generation", arXiv:2508.02401.
 *
 * 4 · window · length · D operations per query head.
 *
 * @throws OptionError when an option is out of its range, or calibration is of another model.
 */
export function compressKv(
  { heads: voters, errors }: CompressKvCalibration,
  options: Partial<CompressKvOptions> = {},
): ScoredCompressor {
  const { budget, window, kernel, minPerLayer } = { ...compressKvDefaults, ...options };
  checkIntegers('compress-kv', { window, kernel, minPerLayer }, 1);
  if (kernel % 2 === 0) throw new OptionError(`compress-kv: kernel is ${kernel}, it must be odd`);
  const mean = uniform('compress-kv', budget);
  return compressor({
    id: 'compress-kv',
    queries: window,
    queryAgnostic: false,
    score: {
      async rows(context) {
        const { layer, layers, heads, kvHeads, length } = context;
        if (voters.length !== layers)
          throw new OptionError(`compress-kv: there are heads of ${voters.length} layers, the model has ${layers}`);
        const chosen = voters[layer];
        const bad = chosen.find((head) => !Number.isInteger(head) || head < 0 || head >= heads);
        if (bad !== undefined || chosen.length === 0)
          throw new OptionError(
            `compress-kv: heads of layer ${layer} are [${chosen.join(', ')}], they must be some of ${heads}`,
          );
        const rows = await readRows(() => attentionReceived(context), length);
        const sums = Float32Array.from({ length }, (_, entry) => chosen.reduce((sum, head) => sum + rows[head][entry], 0));
        return Array.from({ length: kvHeads }, () => sums);
      },
    },
    pooling: { kind: 'avg', size: kernel },
    budget: errors ? byErrors(mean, errors, minPerLayer) : mean,
    protect: { recent: window },
    allocation: shared,
  });
}

/** At least `least` entries per layer and at most three times the mean, what is beside by the layers' errors; their mean is the budget. */
function byErrors(mean: Budget, errors: readonly number[], least: number): Budget {
  const total = errors.reduce((sum, error) => sum + error, 0);
  const bad = errors.findIndex((error) => !(error >= 0));
  if (bad >= 0 || !Number.isFinite(total))
    throw new OptionError(`compress-kv: error ${bad} is ${errors[bad]}, errors must be non-negative numbers`);
  return (length, layer, layers) => {
    if (errors.length !== layers)
      throw new OptionError(`compress-kv: there are errors of ${errors.length} layers, the model has ${layers}`);
    const entries = Math.min(length, mean(length, layer, layers));
    const floor = Math.min(least, entries);
    const most = Math.min(length, 3 * entries);
    const shares = errors.map((error) => (total > 0 ? error / total : 1 / layers));
    const counts = shares.map((share) => Math.min(most, floor + Math.round(share * layers * (entries - floor))));
    // What rounding and limits left over, one by one in the order of the errors.
    let left = layers * entries - counts.reduce((sum, count) => sum + count, 0);
    const order = largest(errors, layers);
    while (left !== 0)
      for (const index of left > 0 ? order : [...order].reverse()) {
        const step = Math.sign(left);
        if (step === 0 || (step > 0 ? counts[index] >= most : counts[index] <= floor)) continue;
        counts[index] += step;
        left -= step;
      }
    return counts[layer];
  };
}

export interface CompressKvMethodOptions extends CompressKvOptions {
  /** Query heads of a layer that vote. */
  readonly heads: number;
}

/**
 * What a plan says to {@link compressKv}: of every layer the `heads` query heads that retrieve most. Figures of the plan: `retrieval` [layers][heads], `error`
 * [layers][1]. Layers with a window of their own count as average ones.
 *
 * @throws OptionError when there are no so many heads, or the plan is another method's.
 */
export function compressKvCalibration(plan: KvPlan, heads: number): CompressKvCalibration {
  const { model } = plan;
  checkIntegers('compress-kv', { heads }, 1);
  const retrieval = figuresOf('compress-kv', plan, 'retrieval', model.heads);
  const errors = figuresOf('compress-kv', plan, 'error', 1);
  const known = errors.flat();
  const mean = known.reduce((sum, error) => sum + error, 0) / Math.max(1, known.length);
  return {
    heads: retrieval.map((row) => ascending(largest(row, heads))),
    errors: errors.map(([error = mean]) => error),
  };
}

/** {@link compressKv} in the catalogue. */
export const compressKvMethod = /* @__PURE__ */ definePlannedKvMethod({
  id: 'compress-kv',
  title: 'CompressKV: heads that retrieve choose for their layer',
  paper: 'arXiv:2508.02401',
  phase: 'prefill',
  training: 'calibration',
  queryAgnostic: false,
  ragged: false,
  options: /* @__PURE__ */ compressKvOptions(),
  compressor: (plan, { heads, ...options }) => compressKv(compressKvCalibration(plan, heads), options),
});

/** As a call, which bundlers can leave out, unlike a spread. */
function compressKvOptions() {
  return { ...compressKvDefaults, heads: 4 } as const;
}
