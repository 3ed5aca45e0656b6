import { OptionError } from '@filigree/core-tensor';
import { checkIntegers, type HeadPlan } from '@filigree/sparse-attention';
import { largest } from '../allocate.js';
import type { Compressor } from '../compressor.js';
import { streamingHeads, streamingPlan } from '../head-classes.js';
import { definePlannedKvMethod } from '../kv-method.js';
import { figuresOf, type KvPlan } from '../kv-plan.js';

export interface RazorShares {
  /** Share of the key-value heads that keep all entries for their induction, rounded up. */
  readonly induction: number;
  /** The same for their echo. */
  readonly echo: number;
}

export interface RazorAttentionOptions extends RazorShares {
  /** First entries that all other heads keep. */
  readonly sinks: number;
  /** Newest entries that they keep at least, */
  readonly minLocal: number;
  /** and of longer prompts one in so many. */
  readonly compression: number;
  /** Whether one more entry stands for what they drop: its mean, which counts as often as there were entries. */
  readonly compensate: boolean;
}

/**
 * RazorAttention: heads that look at what followed the same token before, and a few that look at the token itself, keep all entries; others the first and the
 * newest, and a mean of the rest. Figures of the plan: `induction` and `echo`, [layers][heads].
 * Tang et al., "RazorAttention: Efficient KV Cache Compression Through Retrieval Heads", arXiv:2407.15891.
 *
 * @throws OptionError when an option is out of its range, or the plan is another method's.
 */
export function razorAttention(plan: KvPlan, options: RazorAttentionOptions): Compressor {
  const { sinks, minLocal, compression, compensate, ...shares } = options;
  checkIntegers('razor-attention', { minLocal }, 1);
  if (!(compression >= 1)) throw new OptionError(`razor-attention: compression is ${compression}, it must be at least 1`);
  const recent = (length: number): number => Math.max(minLocal, Math.ceil(length / compression));
  return streamingHeads(razorPlan(plan, shares), { id: 'razor-attention', sinks, recent, compensate });
}

/** Retrieval heads of the whole model: the largest by one figure and by the other, of a group its largest. */
export function razorPlan(plan: KvPlan, shares: RazorShares): HeadPlan {
  const { model } = plan;
  const group = model.heads / model.kvHeads;
  const retrieval = new Set<number>();
  const all = new Set<number>();
  for (const figure of ['induction', 'echo'] as const) {
    const share = shares[figure];
    if (!(share >= 0 && share <= 1))
      throw new OptionError(`razor-attention: ${figure} is ${share}, it must lie within 0 and 1`);
    const heads = figuresOf('razor-attention', plan, figure, model.heads).flatMap((row, layer) =>
      Array.from({ length: row.length / group }, (_, head) => ({
        place: layer * model.kvHeads + head,
        score: Math.max(...row.slice(head * group, (head + 1) * group)),
      })),
    );
    for (const { place } of heads) all.add(place);
    const scores = heads.map(({ score }) => score);
    for (const index of largest(scores, Math.ceil(share * heads.length - 1e-9))) retrieval.add(heads[index].place);
  }
  const streams = new Set([...all].filter((place) => !retrieval.has(place)));
  return streamingPlan(model, streams, { method: 'razor-attention', ...shares });
}

/** {@link razorAttention} in the catalogue. */
export const razorAttentionMethod = /* @__PURE__ */ definePlannedKvMethod({
  id: 'razor-attention',
  title: 'RazorAttention: all entries for induction heads',
  paper: 'arXiv:2407.15891',
  phase: 'prefill',
  training: 'calibration',
  queryAgnostic: true,
  ragged: true,
  options: { induction: 0.14, echo: 0.01, sinks: 4, minLocal: 4000, compression: 5, compensate: true },
  compressor: razorAttention,
});
