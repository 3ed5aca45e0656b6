import { fromArray, keep, type Tensor } from '@filigree/core-tensor';
import type { LayerInfo, SelectContext } from '../selector.js';
import { labelScores } from './label-scores.js';
import { placed } from './step.js';

/** Every channel of every head, i32 [Hk, D]: labels of them are the keys themselves. The caller disposes it. */
export function allChannels({ backend, kvHeads, headDim }: LayerInfo): Tensor {
  const channels = Array.from({ length: kvHeads * headDim }, (_, index) => index % headDim);
  return keep(fromArray(backend, channels, [kvHeads, headDim], 'i32'));
}

/** Scores of all keys, f32 [B, Hq, Lq, capacity]: scale · q·k, −1e30 behind the query. Reads every key, and no value. */
export function exactScores(context: SelectContext, channels: Tensor): Tensor {
  return labelScores(context.q, { labels: context.k, channels }, { ...placed(context), scale: context.scale });
}
