import { layoutHash, OptionError } from '@filigree/core-tensor';
import { attentionMethod, formatHeadPlan, type HeadPlan, type MethodOptions } from '@filigree/sparse-attention';
import { kvCompressor, type AttentionOptions, type KvChoice } from '@filigree/transformer';
import { sha256 } from './hash.js';
import { denseRun, type KvPlan, type MethodRun } from './record.js';

/** Stands where records have the id of a method. */
const planId = 'head-plan';

/** A plan as something to evaluate. Records know it by its name and a hash of what is in it. */
export async function planRun(name: string, plan: HeadPlan): Promise<MethodRun> {
  const hash = await sha256(new TextEncoder().encode(formatHeadPlan(plan)));
  return { id: planId, options: { name, hash: hash.slice(0, 12) }, plan };
}

/** Stands before ids of methods of the cache, some of which are named as methods of attention are. */
const kvPrefix = 'kv/';

/** When a method of the cache cuts a context down: before its questions are known, or once for each. */
export type KvMoment = 'context' | 'question';

/** A plan of the heads for a method of the cache, and the name that records know it by. */
export interface NamedKvPlan {
  readonly name: string;
  readonly plan: KvPlan;
}

/**
 * A method of the cache as something to evaluate; `after`, and name and hash of a plan, stand among the options in records.
 * @throws OptionError for an unknown method or option, or without a plan that it needs.
 */
export function kvRun(id: string, options: MethodOptions, after: KvMoment = 'context', named?: NamedKvPlan): MethodRun {
  kvCompressor({ method: id, options, plan: named?.plan }, 'evaluate');
  const planned = named ? { plan: named.name, planHash: layoutHash(JSON.stringify(named.plan)) } : {};
  const moment = after === 'context' ? {} : { after };
  return { id: `${kvPrefix}${id}`, options: { ...options, ...planned, ...moment }, kvPlan: named?.plan };
}

/** What a run does to the cache; undefined for methods of attention. @throws OptionError for an unknown method or option. */
export function kvOf({ id, options, kvPlan }: MethodRun): { readonly kv: KvChoice; readonly after: KvMoment } | undefined {
  if (!id.startsWith(kvPrefix)) return undefined;
  const { after = 'context', ...rest } = options;
  if (after !== 'context' && after !== 'question')
    throw new OptionError(`${id}: after is ${String(after)}, it must be context or question`);
  const own = Object.entries(rest).filter(([name]) => kvPlan === undefined || !['plan', 'planHash'].includes(name));
  const kv = { method: id.slice(kvPrefix.length), options: Object.fromEntries(own), plan: kvPlan };
  kvCompressor(kv, 'evaluate');
  return { kv, after };
}

/** Where a method applies in a model: in the phases that it is for. @throws OptionError for an unknown method or option. */
export function attentionOf({ id, options, plan }: MethodRun): AttentionOptions {
  if (id === denseRun.id || id.startsWith(kvPrefix)) return {};
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
  if (id.startsWith(kvPrefix)) return 'decode';
  if (!plan) return attentionMethod(id).phase;
  const all = plan.layers.flatMap(({ heads }) => heads.map(({ method }) => attentionMethod(method)));
  const phases = new Set(all.filter(({ id }) => id !== denseRun.id).map(({ phase }) => phase));
  const [first] = phases;
  return phases.size === 1 ? first : 'both';
}
