import { scope, type Tensor } from '@filigree/core-tensor';
import { attention } from '../ops/attention.js';
import { attentionStats } from '../ops/attention-stats.js';
import { planTensor } from '../ops/planned-attention.js';
import { lowerMask } from '../lower-mask.js';
import { slidingWindow } from '../methods/sliding-window.js';
import type { CalibratedModel } from './calibrated-model.js';
import type { LayerSample } from './capture.js';
import { fitExponential, type ExponentialFit } from './fit-exponential.js';
import { runCalibration, type CalibrationOptions, type Calibrator } from './run-calibration.js';

/** λ: weights below this share of the largest so far are skipped. */
const thresholds: readonly number[] = /* @__PURE__ */ Object.freeze([
  1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 2e-2, 3e-2, 5e-2, 7e-2, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.99,
]);

/** Keys per tile of the executors. */
const tile = 64;

/** Per phase, scale = a · e^(b · sparsity): what `skip-softmax` takes for a target sparsity. */
export interface SkipSoftmaxFit {
  readonly prefill: ExponentialFit;
  readonly decode: ExponentialFit;
}

/**
 * Measures which share of tiles each of 20 thresholds would skip, over texts of different lengths, and fits the scale (threshold × length) that a share takes.
 * Prompts skip a tile for 64 queries together, decoding for the last 64 queries one by one.
 * "BLASST: Dynamic Blocked Attention Sparsity via Softmax Thresholding", arXiv:2512.12087.
 *
 * @throws OptionError when the texts are so short or alike that no threshold skips between 10 and 90 % of the tiles.
 */
export async function calibrateSkipSoftmax(
  model: CalibratedModel,
  texts: readonly (readonly number[])[],
  options: CalibrationOptions = {},
): Promise<SkipSoftmaxFit> {
  const calibrator: Calibrator<Skipped, SkipSoftmaxFit> = {
    id: 'skip-softmax',
    settings: { thresholds: [...thresholds], tile },
    observe: skippedShares,
    finish: (figures) => ({ prefill: fitPhase(figures, 'prefill'), decode: fitPhase(figures, 'decode') }),
  };
  return runCalibration(model, texts, calibrator, options);
}

/** Share of visible tiles that each threshold skips, mean over the heads. */
type Skipped = { readonly length: number; readonly prefill: readonly number[]; readonly decode: readonly number[] };

function fitPhase(figures: readonly (readonly Skipped[])[], phase: 'prefill' | 'decode'): ExponentialFit {
  const points = figures.flatMap((layers) =>
    thresholds.map((threshold, index) => ({
      sparsity: layers.reduce((sum, layer) => sum + layer[phase][index], 0) / layers.length,
      scale: threshold * layers[0].length,
    })),
  );
  return fitExponential(points);
}

async function skippedShares({ backend, context, length, heads }: LayerSample): Promise<Skipped> {
  const { q, k, v, scale, softcap, queryLayout } = context;
  const largest = scope((): Tensor => {
    const { lse } = attention(q, k, v, { scale, softcap, queryLayout });
    const everything = slidingWindow({ window: length });
    const plan = planTensor(backend, lowerMask(everything({ batch: 1, heads, lenQ: [length], lenK: [length] })));
    return attentionStats(q, k, plan, lse, { scale, softcap, queryLayout, blockQ: 1, blockK: tile, reduce: 'max' });
  });
  try {
    const tops = (await largest.readNumbers()) as Float32Array;
    return { length, ...countSkipped(tops, heads, length) };
  } finally {
    largest.dispose();
  }
}

/**
 * Shares from the largest weight of every query and tile [Hq, L, C], relative to that of the whole row: a tile is skipped when its largest lies below the
 * threshold times the largest of the tiles before it.
 */
export function countSkipped(tops: ArrayLike<number>, heads: number, length: number): { prefill: number[]; decode: number[] } {
  const columns = Math.ceil(length / tile);
  const prefill = new ShareCounter();
  const decode = new ShareCounter();
  // Of each tile, the most that a query of the block sees in it, relative to what the query saw before.
  const block = new Float64Array(columns);
  for (let head = 0; head < heads; head++) {
    for (let first = 0; first < length; first += tile) {
      block.fill(0);
      const end = Math.min(length, first + tile);
      for (let row = first; row < end; row++) {
        let running = 0;
        for (let column = 0; column * tile <= row; column++) {
          const top = tops[(head * length + row) * columns + column];
          const ratio = running > 0 ? top / running : Infinity;
          block[column] = Math.max(block[column], ratio);
          if (row >= length - tile) decode.add(ratio);
          running = Math.max(running, top);
        }
      }
      for (let column = 0; column * tile < end; column++) prefill.add(block[column]);
    }
  }
  return { prefill: prefill.shares(), decode: decode.shares() };
}

/** Counts tiles and, per threshold, those below it. */
class ShareCounter {
  readonly #below = thresholds.map(() => 0);
  #tiles = 0;

  add(ratio: number): void {
    this.#tiles++;
    for (let index = thresholds.length - 1; index >= 0 && ratio < thresholds[index]; index--) this.#below[index]++;
  }

  shares(): number[] {
    return this.#below.map((count) => count / Math.max(1, this.#tiles));
  }
}
