import { mul, OptionError, permute, type Tensor } from '@filigree/core-tensor';
import type { ExecutorOptions } from '../selector.js';
import type { Precision, QueryLayout } from './check.js';
import { mergeAttention } from './merge.js';

/** Options that every executor takes beside what says which keys are seen. */
export interface ExecutorCall extends ExecutorOptions {
  /** Default 1/√D. */
  readonly scale?: number | undefined;
  readonly softcap?: number | undefined;
  readonly table?: Tensor | undefined;
  readonly queryLayout?: QueryLayout | undefined;
  /** Default `f32`; `bf16` takes less time where the CPU multiplies bfloat16, for the error that {@link attentionOp} states. */
  readonly precision?: Precision | undefined;
  /** f32 [B, Hq, Lq]: a factor of each query's scores, in front of the softcap. */
  readonly rowScale?: Tensor | undefined;
  /** Result over other keys that this one is merged with; of `o` and `lse` as this call gives them. */
  readonly init?: { readonly o: Tensor; readonly lse: Tensor } | undefined;
  /** f32 [Hq]: a learnable logit per head that takes part in the softmax and adds no value; with `init`, once, behind the merge. */
  readonly sinks?: Tensor | undefined;
}

/** Attributes of an executor's op. */
export function attributesOf(
  q: Tensor,
  { scale = 1 / Math.sqrt(q.shape[3]), softcap, queryLayout, precision, pvSkip, scoreNM }: ExecutorCall,
): {
  scale: number;
  softcap: number | undefined;
  queryLayout: QueryLayout | undefined;
  precision: Precision | undefined;
  pvSkip: number | undefined;
  scoreN: number | undefined;
  scoreM: number | undefined;
  scoreSinks: number | undefined;
  scoreRecent: number | undefined;
} {
  return {
    ...{ scale, softcap, queryLayout, precision, pvSkip },
    scoreN: scoreNM?.n,
    scoreM: scoreNM?.m,
    scoreSinks: scoreNM?.sinks,
    scoreRecent: scoreNM?.recent,
  };
}

/**
 * Queries with their row scale, which multiplies scores as the scale does.
 *
 * @throws OptionError when rowScale is not [B, Hq, Lq].
 */
export function scaledQueries(q: Tensor, { rowScale, queryLayout = 'bhld' }: ExecutorCall): Tensor {
  if (!rowScale) return q;
  const [batch, heads, length] = queryLayout === 'bhld' ? q.shape : [q.shape[0], q.shape[2], q.shape[1]];
  if (rowScale.shape.join() !== [batch, heads, length].join())
    throw new OptionError(`attention: rowScale is [${rowScale.shape.join(', ')}], it takes [${batch}, ${heads}, ${length}]`);
  const own = queryLayout === 'bhld' ? rowScale : permute(rowScale, [0, 2, 1]);
  return mul(q, own.view([...q.shape.slice(0, 3), 1]));
}

/** Merges a call's result with what came before it and with its sinks. */
export function finishAttention(
  result: { o: Tensor; lse: Tensor },
  { init, sinks, queryLayout }: ExecutorCall,
): { o: Tensor; lse: Tensor } {
  return mergeAttention(init ? [init, result] : [result], { sinks, queryLayout });
}
