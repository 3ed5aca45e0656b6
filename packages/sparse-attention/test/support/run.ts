import { type Backend, type Tensor } from '@filigree/core-tensor';
import { attendByPolicyAsync, type AttentionPolicy, type SelectContext } from '@filigree/sparse-attention';
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
  const { result, attended } = await attendedBy(context, () => attendByPolicyAsync(context, policy, state));
  selector?.dispose?.(state);
  if (typeof result.cells === 'object') for (const cells of result.cells) cells.dispose();
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
