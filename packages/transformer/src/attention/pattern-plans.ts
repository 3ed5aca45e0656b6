import {
  combinable,
  combinePlans,
  lowerMask,
  packPlan,
  type AttnPlan,
  type ExecutorOptions,
  type HeadsPlan,
  type Pattern,
} from '@filigree/sparse-attention';
import type { ModelConfig } from '../config/model-config.js';
import type { PhaseAttention, PolicyGroup } from './attention-choice.js';

/** Where the queries of a step stand. */
export interface StepSpan {
  /** Position of the first query. */
  readonly start: number;
  readonly count: number;
  /** Positions of the whole prompt that the step is a part of; undefined when decoding. */
  readonly promptEnd: number | undefined;
}

/** Heads of a layer whose patterns run as one plan. */
export interface PatternUnit {
  /** Query heads, ascending; undefined: all. */
  readonly heads: readonly number[] | undefined;
  /** Index among the distinct plans of the step. */
  readonly plan: number;
  readonly options: ExecutorOptions;
}

/** The patterns of a step as plans. Layers with the same patterns on the same heads share them. */
export interface PatternPlans {
  /** Packed, distinct. */
  readonly plans: readonly Int32Array[];
  /** [layers]. */
  readonly units: readonly (readonly PatternUnit[])[];
  /** [layers]: visible cells of the units, one head's worth. */
  readonly visible: readonly number[];
}

type PatternGroup = PolicyGroup & { readonly policy: { readonly kind: 'pattern'; readonly pattern: Pattern } };

/** Lowers what patterns there are. `padded`: buffers grow by doubling, so that recorded steps keep their shapes. */
export function patternPlans(
  phase: PhaseAttention,
  config: ModelConfig,
  span: StepSpan,
  { padded }: { readonly padded: boolean },
): PatternPlans {
  const plans: Int32Array[] = [];
  const known = new Map<string, { readonly units: PatternUnit[]; readonly visible: number }>();
  const layers = phase.map((groups) => {
    const patterns = groups.filter(isPattern);
    const key = JSON.stringify(patterns.map((group) => [group.key, group.heads]));
    const before = known.get(key);
    if (before) return before;
    const made = { units: [] as PatternUnit[], visible: 0 };
    for (const { parts, options } of joined(patterns, config.heads, span)) {
      const heads = parts.flatMap((part) => part.heads).sort((a, b) => a - b);
      const all = heads.length === config.heads;
      const plan = all && parts.length === 1 ? parts[0].plan : combinePlans(parts, all ? undefined : kvHeads(config));
      made.units.push({ heads: all ? undefined : heads, plan: plans.length, options });
      made.visible += plan.stats.cells / config.heads;
      plans.push(packed(plan, padded));
    }
    known.set(key, made);
    return made;
  });
  return { plans, units: layers.map(({ units }) => units), visible: layers.map(({ visible }) => visible) };
}

function isPattern(group: PolicyGroup): group is PatternGroup {
  return group.policy.kind === 'pattern';
}

/** Plans of a layer's patterns; those that can be are joined. */
function joined(
  groups: readonly PatternGroup[],
  allHeads: number,
  { start, count, promptEnd }: StepSpan,
): { readonly parts: HeadsPlan[]; readonly options: ExecutorOptions }[] {
  const sets: { readonly parts: HeadsPlan[]; readonly options: ExecutorOptions }[] = [];
  for (const { policy, heads = [...Array(allHeads).keys()] } of groups) {
    const mask = policy.pattern({
      batch: 1,
      heads: heads.length,
      lenQ: [count],
      lenK: [start + count],
      ...(promptEnd === undefined ? {} : { promptEnd: [promptEnd] }),
    });
    const part = { plan: lowerMask(mask), heads };
    const options = policy.options ?? {};
    const set = sets.find(
      (other) => JSON.stringify(other.options) === JSON.stringify(options) && combinable(other.parts[0].plan, part.plan),
    );
    if (set) set.parts.push(part);
    else sets.push({ parts: [part], options });
  }
  return sets;
}

function kvHeads({ heads, kvHeads: shared }: ModelConfig): number[] {
  return Array.from({ length: heads }, (_, head) => Math.floor((head * shared) / heads));
}

function packed(plan: AttnPlan, padded: boolean): Int32Array {
  const words = packPlan(plan);
  if (!padded) return words;
  const room = new Int32Array(2 ** Math.ceil(Math.log2(words.length)));
  room.set(words);
  return room;
}
