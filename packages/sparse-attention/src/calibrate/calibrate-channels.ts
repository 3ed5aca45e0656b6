import { mul, OptionError, permute, reduce, reshape, scope, unary } from '@filigree/core-tensor';
import type { CalibratedModel } from './calibrated-model.js';
import type { LayerSample } from './capture.js';
import { runCalibration, type CalibrationOptions, type Calibrator } from './run-calibration.js';

/** Channels of every layer and key-value head that stand for a whole key, most telling first: `[layer][kvHead][r]`. Layers that were not calibrated have none. */
export interface ChannelPlan {
  readonly channels: readonly (readonly (readonly number[])[])[];
}

/** What a channel's weight is: the mean of |q · k|, of |k| or of |q| over the tokens. */
export type ChannelScore = 'qk' | 'k' | 'q';

export interface ChannelOptions extends CalibrationOptions {
  /** Default `qk`. */
  readonly by?: ChannelScore | undefined;
  /** Channels per head; default a quarter of them. */
  readonly keep?: number | undefined;
}

/**
 * Double Sparsity's offline calibration: the channels of rotated keys that carry most of the dot products.
 * Yang et al., "Post-Training Sparse Attention with Double Sparsity", arXiv:2408.07092.
 *
 * @throws OptionError when `keep` is no number of channels.
 */
export async function calibrateChannels(
  model: CalibratedModel,
  texts: readonly (readonly number[])[],
  { by = 'qk', keep = Math.max(1, Math.floor(model.config.headDim / 4)), ...options }: ChannelOptions = {},
): Promise<ChannelPlan> {
  const { headDim, layers } = model.config;
  if (!Number.isInteger(keep) || keep < 1 || keep > headDim)
    throw new OptionError(`calibrateChannels: keep is ${keep}, it must be a whole number from 1 to ${headDim}`);
  const calibrator: Calibrator<number[][], ChannelPlan> = {
    id: 'channels',
    settings: { by },
    observe: (sample) => channelMeans(sample, by),
    finish: (figures, calibrated) => ({
      channels: Array.from({ length: layers }, (_, layer) => {
        const index = calibrated.indexOf(layer);
        return index < 0
          ? []
          : strongest(
              figures.map((text) => text[index]),
              keep,
            );
      }),
    }),
  };
  return runCalibration(model, texts, calibrator, options);
}

/** Mean weight of each channel, [Hk][D]. */
async function channelMeans({ context, length, heads, kvHeads }: LayerSample, by: ChannelScore): Promise<number[][]> {
  const { q, k } = context;
  const dim = q.shape[3];
  const means = scope(() => {
    if (by === 'k') return reduce(unary(k, 'abs'), 'mean', { axis: 2 });
    const grouped = reshape(q, [length, kvHeads, heads / kvHeads, dim]);
    const products = by === 'q' ? grouped : mul(grouped, reshape(permute(k, [0, 2, 1, 3]), [length, kvHeads, 1, dim]));
    return reduce(reduce(unary(products, 'abs'), 'mean', { axis: 0 }), 'mean', { axis: 1 });
  });
  try {
    const values = Array.from(await means.readNumbers());
    return Array.from({ length: kvHeads }, (_, head) => values.slice(head * dim, (head + 1) * dim));
  } finally {
    means.dispose();
  }
}

/** The `keep` channels of each head with the largest mean over all texts; ties go to the lower channel. */
function strongest(texts: readonly (readonly (readonly number[])[])[], keep: number): number[][] {
  return texts[0].map((first, head) => {
    const sums = first.map((_, channel) => texts.reduce((sum, heads) => sum + heads[head][channel], 0));
    return [...sums.keys()].sort((a, b) => sums[b] - sums[a] || a - b).slice(0, keep);
  });
}
