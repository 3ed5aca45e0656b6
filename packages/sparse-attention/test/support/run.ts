import { scope, type Backend, type Tensor } from '@filigree/core-tensor';
import {
  attention,
  lowerMask,
  plannedAttention,
  planTensor,
  type AttentionPolicy,
  type SelectContext,
} from '@filigree/sparse-attention';
import { attendedBy, type Attended } from './attended.js';
import { contextOf, disposeContext, stateFor, type ContextOptions } from './context.js';
import type { PlantedPrompt } from './planted.js';

/** A policy's result for a step, and what it saw. */
export interface Outcome {
  readonly context: SelectContext;
  readonly o: Tensor;
  readonly lse: Tensor;
  readonly attended: Attended;
}

/** Runs a policy on a step of some prompts. */
export async function run(
  backend: Backend,
  policy: AttentionPolicy,
  prompts: readonly PlantedPrompt[],
  options: ContextOptions = {},
): Promise<Outcome> {
  const context = contextOf(backend, prompts, options);
  const selector = policy.kind === 'selector' ? policy.selector : undefined;
  const state = selector && stateFor(selector, prompts, context);
  const { result, attended } = await attendedBy(context, () => scope(() => attendByPolicy(context, policy, state)));
  selector?.dispose?.(state);
  return { context, o: result.o, lse: result.lse, attended };
}

export function disposeOutcome({ context, o, lse }: Outcome): void {
  disposeContext(context);
  o.dispose();
  lse.dispose();
}

/** Keys that every query of one prompt sees, per head. */
export async function keysSeen(
  backend: Backend,
  policy: AttentionPolicy,
  prompt: PlantedPrompt,
  options: ContextOptions = {},
): Promise<Attended['keys'][number]> {
  const outcome = await run(backend, policy, [prompt], options);
  disposeOutcome(outcome);
  return outcome.attended.keys[0];
}

function attendByPolicy(context: SelectContext, policy: AttentionPolicy, state: unknown): { o: Tensor; lse: Tensor } {
  const { q, k, v, table, queryLayout, scale } = context;
  if (policy.kind === 'executor') throw new Error('no');
  if (policy.kind === 'pattern') {
    const plan = planTensor(
      q.backend,
      lowerMask(
        policy.pattern({
          batch: q.shape[0],
          heads: q.shape[queryLayout === 'bhld' ? 1 : 2],
          lenQ: context.lenQ,
          lenK: context.lenK ?? [],
        }),
      ),
    );
    return plannedAttention(q, k, v, plan, { table, queryLayout, scale });
  }
  const selection = policy.selector.select(context, state);
  if (selection === 'dense') return attention(q, k, v, { table, queryLayout, scale, lengths: context.lengthsK });
  const part = selection.parts[0];
  if (!('plan' in part)) throw new Error('no plan');
  return plannedAttention(q, k, v, part.plan, { table, queryLayout, scale });
}
