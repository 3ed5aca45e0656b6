import { attentionMethod, formatHeadPlan, type HeadPlan } from '@filigree/sparse-attention';
import type { AttentionOptions } from '@filigree/transformer';
import { sha256 } from './hash.js';
import { denseRun, type MethodRun } from './record.js';

/** Stands where records have the id of a method. */
const planId = 'head-plan';

/** A plan as something to evaluate. Records know it by its name and a hash of what is in it. */
export async function planRun(name: string, plan: HeadPlan): Promise<MethodRun> {
  const hash = await sha256(new TextEncoder().encode(formatHeadPlan(plan)));
  return { id: planId, options: { name, hash: hash.slice(0, 12) }, plan };
}

/** Where a method applies in a model: in the phases that it is for. @throws OptionError for an unknown method or option. */
export function attentionOf({ id, options, plan }: MethodRun): AttentionOptions {
  if (id === denseRun.id) return {};
  if (plan) return { plan };
  const method = attentionMethod(id);
  method.create(options);
  const choice = { method: id, options };
  return {
    prefill: method.phase === 'decode' ? undefined : choice,
    decode: method.phase === 'prefill' ? undefined : choice,
  };
}

/** The phases that a method works in; those of the heads' methods are the plan's. */
export function phaseOf({ id, plan }: MethodRun): 'prefill' | 'decode' | 'both' {
  if (!plan && id === planId) return 'both';
  if (!plan) return attentionMethod(id).phase;
  const all = plan.layers.flatMap(({ heads }) => heads.map(({ method }) => attentionMethod(method)));
  const phases = new Set(all.filter(({ id }) => id !== denseRun.id).map(({ phase }) => phase));
  const [first] = phases;
  return phases.size === 1 ? first : 'both';
}
