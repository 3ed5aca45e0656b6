import type { Compressor } from '../compressor.js';
import { gatePlan, streamingHeads, type GateOptions } from '../head-classes.js';
import { definePlannedKvMethod } from '../kv-method.js';
import { figuresOf, type KvPlan } from '../kv-plan.js';

export interface DuoAttentionOptions extends GateOptions {
  /** First entries that streaming heads keep. */
  readonly sinks: number;
  /** Newest entries that they keep. */
  readonly recent: number;
}

/**
 * DuoAttention: heads with large gates keep all entries, those with small ones the first and the newest. Figures of the plan: `gates` [layers][kvHeads].
 * Xiao et al., "DuoAttention: Efficient Long-Context LLM Inference with Retrieval and Streaming Heads", arXiv:2410.10819.
 *
 * @throws OptionError when an option is out of its range, or the plan is another method's.
 */
export function duoAttention(plan: KvPlan, { sparsity, sinks, recent }: DuoAttentionOptions): Compressor {
  const gates = figuresOf('duo-attention', plan, 'gates', plan.model.kvHeads);
  return streamingHeads(gatePlan(plan.model, gates, { sparsity }), { sinks, recent });
}

/** {@link duoAttention} in the catalogue. */
export const duoAttentionMethod = /* @__PURE__ */ definePlannedKvMethod({
  id: 'duo-attention',
  title: 'DuoAttention: all entries for heads that retrieve',
  paper: 'arXiv:2410.10819',
  phase: 'prefill',
  training: 'calibration',
  queryAgnostic: true,
  ragged: true,
  options: { sparsity: 0.5, sinks: 64, recent: 256 },
  compressor: duoAttention,
});
