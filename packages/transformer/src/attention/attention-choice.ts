import { OptionError } from '@filigree/core-tensor';
import {
  attentionMethod,
  constantOptions,
  headGroups,
  type AttentionPolicy,
  type HeadPlan,
  type MethodOptions,
  type Pattern,
} from '@filigree/sparse-attention';
import type { ModelConfig } from '../config/model-config.js';

/** A method of the catalogue with options that differ from its defaults. */
export interface MethodChoice {
  readonly method: string;
  readonly options?: MethodOptions | undefined;
}

/** A method of the catalogue, or a policy or a pattern of one's own. */
export type AttentionChoice = MethodChoice | AttentionPolicy | Pattern;

/** Sparse attention per phase; what is left out is dense. */
export interface AttentionOptions {
  readonly prefill?: AttentionChoice | undefined;
  readonly decode?: AttentionChoice | undefined;
  /**
   * A method for every head. It rules the phases that its methods are made for and that have no choice of their own above.
   */
  readonly plan?: HeadPlan | undefined;
}

export type AttentionPhase = 'prefill' | 'decode';

/** Query heads of a layer that attend in the same way. */
export interface PolicyGroup {
  /** The same for the same method with the same options: state is kept under it. */
  readonly key: string;
  readonly policy: AttentionPolicy;
  /** Query heads, ascending; undefined: all. */
  readonly heads: readonly number[] | undefined;
}

/** The same for the same method on the same heads. */
export function groupName({ key, heads }: PolicyGroup): string {
  return `${key} ${heads?.join() ?? ''}`;
}

/** [layers] of groups; none: the layer is dense. */
export type PhaseAttention = readonly (readonly PolicyGroup[])[];

/** What the layers do in a phase; undefined when all are dense. @throws OptionError naming an unknown or unfit method or option. */
export function phaseAttention(
  attention: AttentionOptions | undefined,
  phase: AttentionPhase,
  config: ModelConfig,
  caller: string,
): PhaseAttention | undefined {
  const choice = attention?.[phase];
  if (choice !== undefined) {
    const group = groupOf(choice, phase, `${caller}: attention.${phase}`);
    return group && config.windows.map((window, layer) => (window > 0 || layer < firstLayer(group) ? [] : [group]));
  }
  if (!attention?.plan) return undefined;
  const layers = plannedGroups(attention.plan, phase, config, `${caller}: attention.plan`);
  return layers.some((groups) => groups.length > 0) ? layers : undefined;
}

function groupOf(choice: AttentionChoice, phase: AttentionPhase, argument: string): PolicyGroup | undefined {
  if (typeof choice === 'function')
    return { key: ownKey(choice), policy: { kind: 'pattern', pattern: choice }, heads: undefined };
  if ('kind' in choice) return { key: ownKey(choice), policy: choice, heads: undefined };
  const { made, group } = methodGroup(choice, undefined, argument);
  if (made !== 'both' && made !== phase)
    throw new OptionError(`${argument}: ${choice.method} is a method of ${made}, this is ${phase}`);
  return isDense(group) ? undefined : group;
}

function plannedGroups(plan: HeadPlan, phase: AttentionPhase, config: ModelConfig, argument: string): PolicyGroup[][] {
  const { layers, heads, kvHeads } = plan.model;
  if (layers !== config.layers || heads !== config.heads || kvHeads !== config.kvHeads)
    throw new OptionError(
      `${argument}: it was made for ${layers} layers of ${heads} heads over ${kvHeads} (${plan.model.name}), the model has ${config.layers} of ${config.heads} over ${config.kvHeads}`,
    );
  return config.windows.map((window, layer) => {
    if (window > 0) return [];
    const dense: number[] = [];
    const groups: PolicyGroup[] = [];
    for (const choice of headGroups(plan, layer)) {
      const { made, group } = methodGroup(choice, choice.heads, `${argument}: layer ${layer}`);
      if ((made === 'both' || made === phase) && !isDense(group) && layer >= firstLayer(group)) groups.push(group);
      else dense.push(...choice.heads);
    }
    if (groups.length === 0) return [];
    if (dense.length > 0) groups.push(denseGroup(dense.sort((a, b) => a - b)));
    return groups.length === 1 ? [{ ...groups[0], heads: undefined }] : groups;
  });
}

function methodGroup(
  { method: id, options = {} }: MethodChoice,
  heads: readonly number[] | undefined,
  argument: string,
): { readonly made: AttentionPhase | 'both'; readonly group: PolicyGroup } {
  try {
    const method = attentionMethod(id);
    const all = Object.entries({ ...method.options, ...options }).sort(([a], [b]) => (a < b ? -1 : 1));
    return { made: method.phase, group: { key: JSON.stringify([id, all]), policy: method.create(options), heads } };
  } catch (error) {
    if (error instanceof OptionError) throw new OptionError(`${argument}: ${error.message}`, { cause: error });
    throw error;
  }
}

function denseGroup(heads: readonly number[]): PolicyGroup {
  return { key: 'dense', policy: { kind: 'executor', options: () => ({}) }, heads };
}

/** Layers before it are dense. */
function firstLayer({ policy }: PolicyGroup): number {
  return policy.kind === 'pattern' ? (policy.fromLayer ?? 0) : 0;
}

/** Whether the executor runs without options, whatever the length. */
function isDense({ policy }: PolicyGroup): boolean {
  return policy.kind === 'executor' && Object.keys(constantOptions(policy) ?? { some: true }).length === 0;
}

/** Whether a step of the phase needs lengths on the host for more than the plans of its patterns, so that it cannot be recorded. */
export function needsLengths(phase: PhaseAttention): boolean {
  return phase.flat().some(({ policy }) => {
    if (policy.kind === 'selector') return policy.selector.needsLengths === true;
    return policy.kind === 'executor' && constantOptions(policy) === undefined;
  });
}

/** Whether a layer of the phase waits for the host. */
export function awaitsHost(phase: PhaseAttention): boolean {
  return phase.flat().some(({ policy }) => policy.kind === 'selector' && policy.selector.selectAsync !== undefined);
}

const ownKeys = /* @__PURE__ */ new WeakMap<object, string>();
let ownCount = 0;

/** A key for a policy or pattern that is not of the catalogue: two are the same when they are the same object. */
function ownKey(own: object): string {
  const known = ownKeys.get(own);
  if (known !== undefined) return known;
  const key = `own ${ownCount++}`;
  ownKeys.set(own, key);
  return key;
}
