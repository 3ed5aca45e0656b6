import { OptionError, reduce, reshape, softmax, type Tensor } from '@filigree/core-tensor';
import type { SelectContext } from '../selector.js';
import { stepSizes } from './step.js';

/** How the query heads of a key-value head come to one list: each has its own, by the sum of their softmaxed scores, or by their largest score. */
export const groupReduces = ['none', 'sum', 'max'] as const;
export type GroupReduce = (typeof groupReduces)[number];

/**
 * Scores [B, Hq, Lq, N] of query heads → those of their key-value heads, [B, Hk, Lq, N]; the same scores for `none`.
 * @throws OptionError when groups are not contiguous.
 */
export function sharedScores(method: string, context: SelectContext, scores: Tensor, kind: GroupReduce): Tensor {
  if (kind === 'none') return scores;
  const { batch, heads, kvHeads, lengthQ } = stepSizes(context);
  if (context.kvMap)
    throw new OptionError(`${method}: groupReduce ${kind} takes contiguous groups of query heads, not a kvMap`);
  const own = kind === 'sum' ? softmax(scores) : scores;
  return reduce(reshape(own, [batch, kvHeads, heads / kvHeads, lengthQ, scores.shape[3]]), kind, { axis: 2 });
}
