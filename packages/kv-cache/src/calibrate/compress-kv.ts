import { div, keep, matmul, mul, reduce, reshape, scope, slice, sub, unary, type Tensor } from '@filigree/core-tensor';
import {
  runCalibration,
  type CalibrationStore,
  type Calibrator,
  type LayerSample,
  type PlannedModel,
} from '@filigree/sparse-attention';
import { positive } from '../compress/norms.js';
import type { KvPlan } from '../compress/kv-plan.js';
import { compressKv, compressKvCalibration, compressKvDefaults } from '../compress/methods/compress-kv.js';
import { meanOverTexts, planOf, type KvCalibrationOptions } from './plan-of.js';
import { recallDefaults, recallText, type CalibratedKvModel, type RecallOptions, type RecallText } from './recall-text.js';
import { meanAttention, piecesOf, rowMask, rowProbabilities, type Span } from './row-attention.js';

export interface CalibrateCompressKvOptions extends KvCalibrationOptions, Partial<Omit<RecallOptions, 'passkeys'>> {
  /** Query heads of a layer that choose when errors are measured. Default 4. */
  readonly heads?: number | undefined;
  /** Entries that are left then, or the share of the prompt. Default 0.1. */
  readonly budget?: number | undefined;
  /** Keeps the progress of the errors, which are measured after the heads are known. */
  readonly secondStore?: CalibrationStore | undefined;
}

/**
 * CompressKV's figures: of every query head `retrieval`, its mean attention to the whole of a passkey while the model says it, and of every layer `error`, how far
 * off the output of these rows is, |O' − O| / |O|, when the heads that retrieve most cut the prompt down.
 *
 * Answers are forced, not generated, so that no answer has to be thrown away as wrong. Lin et al., arXiv:2508.02401.
 *
 * @throws OptionError when an option is out of its range, or a text too short; AbortError.
 */
export async function calibrateCompressKv(
  model: CalibratedKvModel,
  texts: readonly (readonly number[])[],
  { heads = 4, budget = 0.1, name = 'unnamed', store, secondStore, ...options }: CalibrateCompressKvOptions = {},
): Promise<KvPlan> {
  const { words, seed } = { ...recallDefaults, ...options };
  const made = texts.map((text, index) => recallText(model, text, { passkeys: 1, words, seed }, index));
  const tokens = made.map((text) => text.tokens);
  const settings = { method: 'compress-kv', texts: texts.length, heads, budget, words, seed };
  const retrieval: Calibrator<number[], KvPlan> = {
    id: 'compress-kv heads',
    settings: {},
    observe: (sample, text) => retrievalOf(sample, made[text]),
    finish: (figures, layers) => {
      const found = meanOverTexts(figures);
      const error = found.map(() => [0]);
      return planOf(model, name, settings, { layers, figures: { retrieval: found, error } });
    },
  };
  const plan = await runCalibration(model, tokens, retrieval, { ...options, store });
  const voters = compressKvCalibration(plan, heads).heads;
  const errors: Calibrator<number[], KvPlan> = {
    id: 'compress-kv errors',
    settings: { voters, budget },
    observe: async (sample, text) => [await errorOf(sample, made[text], { voters, budget, model: plan.model })],
    finish: (figures, layers) => {
      const error = planOf(model, name, settings, { layers, figures: { error: meanOverTexts(figures) } }).figures['error'];
      return { ...plan, figures: { ...plan.figures, error } };
    },
  };
  return runCalibration(model, tokens, errors, { ...options, store: secondStore });
}

async function retrievalOf(sample: LayerSample, { recalls }: RecallText): Promise<number[]> {
  const [{ needle, rows }] = recalls;
  const [masses] = await meanAttention(sample, [rows], [() => [needle]]);
  return masses;
}

interface ErrorOptions {
  readonly voters: readonly (readonly number[])[];
  readonly budget: number;
  readonly model: PlannedModel;
}

/** |O' − O| / |O| over the rows that say the passkey, all heads together. */
async function errorOf(sample: LayerSample, { recalls }: RecallText, { voters, budget, model }: ErrorOptions): Promise<number> {
  const [{ rows }] = recalls;
  const prompt = rows.start + 1;
  const kept = await keptOf(sample, prompt, { voters, budget, model });
  const seen = (): Span[] => [...Array.from(kept, (id) => ({ start: id, end: id + 1 })), { start: prompt, end: sample.length }];
  let [apart, whole] = [0, 0];
  for (const piece of piecesOf(rows)) {
    const sums = scope(() => {
      const dense = rowProbabilities(sample, piece);
      const left = mul(dense, rowMask(sample, piece, seen));
      const o = outputs(sample, dense);
      const some = outputs(sample, div(left, positive(reduce(left, 'sum', { keepDims: true }))));
      return { apart: squares(sub(some, o)), whole: squares(o) };
    });
    try {
      apart += (await sums.apart.readNumbers())[0];
      whole += (await sums.whole.readNumbers())[0];
    } finally {
      for (const tensor of Object.values(sums)) tensor.dispose();
    }
  }
  return Math.sqrt(apart) / (Math.sqrt(whole) + 1e-5);
}

/** What is left of the first `length` entries; the same for all heads. */
async function keptOf(
  { backend, context, layer, heads, kvHeads }: LayerSample,
  length: number,
  { voters, budget, model }: ErrorOptions,
): Promise<Uint32Array> {
  const { q, k, v, scale, softcap } = context;
  const window = Math.min(length, compressKvDefaults.window);
  const made = scope(() => {
    const first = (x: Tensor): Tensor =>
      keep(reshape(slice(x, [0, 0, 0, 0], [1, kvHeads, length, x.shape[3]]), [kvHeads, length, x.shape[3]]));
    return { k: first(k), v: first(v), q: keep(slice(q, [0, length - window, 0, 0], [1, window, heads, q.shape[3]])) };
  });
  try {
    const shape = { backend, layer, layers: model.layers, heads, kvHeads, length };
    const [ids] = await compressKv({ heads: voters }, { budget }).compress({
      ...shape,
      ...made,
      scale,
      softcap,
      rotate: (x) => x,
    });
    return ids;
  } finally {
    for (const tensor of Object.values(made)) tensor.dispose();
  }
}

/** Values that probabilities [Hq, rows, L] gather: [Hk, G · rows, Dv]. */
function outputs({ context, heads, kvHeads, length }: LayerSample, chances: Tensor): Tensor {
  const values = reshape(context.v, [kvHeads, length, context.v.shape[3]]);
  return matmul(reshape(chances, [kvHeads, (heads / kvHeads) * chances.shape[1], length]), values);
}

function squares(x: Tensor): Tensor {
  return reduce(reshape(unary(x, 'square'), [x.size]), 'sum');
}
