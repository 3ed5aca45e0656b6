import { add, OptionError, reduce, softmax, type Tensor } from '@filigree/core-tensor';
import { checkIntegers, defineMethod } from '../method.js';
import { reuseWhileSimilar } from '../reuse/reuse-while-similar.js';
import { allChannels, exactScores } from '../select/exact-scores.js';
import { hidden } from '../select/geometry.js';
import { selectRow } from '../select/select-row.js';
import { selectionIndices } from '../select/selection-indices.js';
import { constant, isShort, stepSizes } from '../select/step.js';
import type { SelectContext, Selector } from '../selector.js';

export interface TokenSelectOptions {
  /** Keys that are voted for. */
  readonly topK: number;
  /** First keys, which everyone sees. */
  readonly sinks: number;
  /** Newest keys, which everyone sees. */
  readonly local: number;
  /** Steps see the same keys as long as the cosine of their queries with those of the last selection is at least that; 0: every step selects. */
  readonly reuseCosine: number;
}

/**
 * TokenSelect: the heads of a layer vote. Every head gives its softmax over the keys between the sinks and the window, so that one that is sure of a key outweighs many
 * that are not; the keys with the most votes are seen by all heads.
 *
 * Reads every key where it selects, and the values of topK + sinks + local. One list a layer. To compare queries, every layer waits for the host. Keys keep their positions; the paper renumbers them for lengths beyond training.
 * Wu et al., "TokenSelect: Efficient Long-Context Inference and Length Extrapolation for LLMs via Dynamic Token-Level KV Cache Selection", arXiv:2411.02886.
 *
 * @throws OptionError when an option is out of its range.
 */
export function tokenSelect({ topK, sinks, local, reuseCosine }: TokenSelectOptions): Selector<{ readonly channels: Tensor }> {
  checkIntegers('token-select', { local }, 1);
  checkIntegers('token-select', { topK, sinks });
  if (!(reuseCosine >= 0 && reuseCosine <= 1))
    throw new OptionError(`token-select: reuseCosine is ${reuseCosine}, it must lie in 0 … 1`);
  const slots = topK + sinks + local;
  const selector: Selector<{ readonly channels: Tensor }> = {
    needsLengths: true,
    init: (layer) => ({ channels: allChannels(layer) }),
    dispose({ channels }) {
      channels.dispose();
    },
    select(context, { channels }) {
      if (isShort(context, slots)) return 'dense';
      const { lengths } = context;
      const scores = add(exactScores(context, channels), outsideOfVote(context, sinks, local));
      const votes = reduce(softmax(scores), 'sum', { axis: 1, keepDims: true });
      const { bits } = selectRow(votes, { lengths, topK: slots, sinks, local });
      return { parts: [selectionIndices(bits, { slots, lengths })] };
    },
  };
  return reuseCosine === 0 ? selector : reuseWhileSimilar(selector, reuseCosine);
}

/** f32 [B, 1, Lq, capacity]: what hides keys that nobody votes for, those that a query sees anyway. */
function outsideOfVote(context: SelectContext, sinks: number, local: number): Tensor {
  const { batch, lengthQ, capacity } = stepSizes(context);
  const { lenQ, lenK = [] } = context;
  const values = new Float32Array(batch * lengthQ * capacity);
  for (let element = 0; element < batch; element++) {
    for (let query = 0; query < lengthQ; query++) {
      const row = values.subarray((element * lengthQ + query) * capacity, (element * lengthQ + query + 1) * capacity);
      const seen = lenK[element] - lenQ[element] + query + 1;
      row.fill(hidden, 0, Math.min(sinks, capacity));
      row.fill(hidden, Math.max(0, seen - local), Math.max(0, seen));
    }
  }
  return constant(context, values, [batch, 1, lengthQ, capacity]);
}

/** {@link tokenSelect} in the catalogue. */
export const tokenSelectMethod = /* @__PURE__ */ defineMethod({
  id: 'token-select',
  title: 'TokenSelect: one list by a vote of the heads',
  paper: 'arXiv:2411.02886',
  phase: 'decode',
  training: 'none',
  emits: 'indices',
  options: { topK: 2048, sinks: 128, local: 512, reuseCosine: 0.9 },
  policy: (options) => ({ kind: 'selector', selector: tokenSelect(options) }),
});
