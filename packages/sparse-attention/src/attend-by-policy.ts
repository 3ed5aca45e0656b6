import { ExecutionError, scope, type Tensor } from '@filigree/core-tensor';
import { attention } from './ops/attention.js';
import type { Precision } from './ops/check.js';
import { gatherAttention } from './ops/gather-attention.js';
import { mergeAttention } from './ops/merge.js';
import { plannedAttention } from './ops/planned-attention.js';
import { patternPlan, type PlanCache } from './plan-cache.js';
import { loweredWithRanges } from './select/lowered-with-ranges.js';
import { stepSizes } from './select/step.js';
import type { AttentionPolicy, ExecutorOptions, SelectContext, Selection, SelectionPart } from './selector.js';

/** Attention as a policy had it. */
export interface PolicyResult {
  /** As q, with the values' channels. */
  readonly o: Tensor;
  /** [B, Hq, Lq]. */
  readonly lse: Tensor;
  /**
   * Cells that were visible: a number over all heads of a pattern; for a selector, f32 [B, Hm, R] of each of its parts, per mask head; undefined when all
   * causal cells were.
   */
  readonly cells: number | readonly Tensor[] | undefined;
}

export interface AttendOptions {
  /** Plans of patterns, kept for the next layer. */
  readonly plans?: PlanCache | undefined;
  readonly precision?: Precision | undefined;
}

/**
 * Attention of one step of one layer by a policy: a pattern is lowered here and may be cached, a selector's parts are executed on the device and merged.
 * Nothing is read back.
 *
 * @param state what the selector's `init` made for the layer.
 * @throws ExecutionError when a pattern or an option that depends on the length is asked for in a step whose lengths the host does not know.
 */
export function attendByPolicy(
  context: SelectContext,
  policy: AttentionPolicy,
  state?: unknown,
  { plans, precision }: AttendOptions = {},
): PolicyResult {
  const { q, k, v } = context;
  return scope((): PolicyResult => {
    if (policy.kind === 'executor') return dense(context, { ...optionsFor(policy, context), precision });
    if (policy.kind === 'pattern') {
      if (context.layer < (policy.fromLayer ?? 0)) return dense(context, { precision });
      const { plan, cells } = patternPlan(context, policy.pattern, plans);
      return { ...plannedAttention(q, k, v, plan, callOf(context, { ...policy.options, precision })), cells };
    }
    return attendSelection(context, policy.selector.select(context, state), { precision });
  });
}

/** As {@link attendByPolicy}, for selectors too that look at numbers on the host first. */
export async function attendByPolicyAsync(
  context: SelectContext,
  policy: AttentionPolicy,
  state?: unknown,
  options: AttendOptions = {},
): Promise<PolicyResult> {
  if (policy.kind !== 'selector' || !policy.selector.selectAsync) return attendByPolicy(context, policy, state, options);
  const selection = await policy.selector.selectAsync(context, state);
  return scope(() => attendSelection(context, takenOver(selection), options));
}

/** What `selectAsync` returned, with tensors of the current scope. @throws ExecutionError when it has other parts than lists. */
export function takenOver(selection: Selection): Selection {
  if (selection === 'dense') return selection;
  const take = (tensor: Tensor): Tensor => {
    const taken = tensor.view(tensor.shape);
    tensor.dispose();
    return taken;
  };
  const parts = selection.parts.map((part) => {
    if (!('indices' in part)) throw new ExecutionError('attendByPolicyAsync: selectAsync must answer with lists of keys');
    return { indices: take(part.indices), cells: part.cells && take(part.cells) };
  });
  return { ...selection, parts };
}

/** Attention over what was selected: parts are executed and merged. */
export function attendSelection(
  context: SelectContext,
  selection: Selection,
  { precision }: Pick<AttendOptions, 'precision'> = {},
): PolicyResult {
  if (selection === 'dense') return dense(context, { precision });
  const options = { ...selection.options, precision };
  const results = selection.parts.map((part) => attendPart(context, part, options));
  const cells = selection.parts.flatMap((part) => part.cells ?? []);
  return { ...mergeAttention(results, { queryLayout: context.queryLayout }), cells };
}

type CallOptions = ExecutorOptions & { readonly precision?: Precision | undefined };

function callOf({ scale, softcap, table, queryLayout }: SelectContext, options: CallOptions) {
  return { ...{ scale, softcap, table, queryLayout }, ...options };
}

function dense(context: SelectContext, options: CallOptions): PolicyResult {
  const { q, k, v, lengthsK, kvMap, lenQ } = context;
  const call = callOf(context, options);
  // Dense attention takes every query for one; where elements have fewer, a plan says so.
  const whole = lenQ.every((length) => length === stepSizes(context).lengthQ);
  if (!whole)
    return {
      ...plannedAttention(q, k, v, loweredWithRanges(context, [[0, 0]], {}, { blockQ: 16 }).plan, call),
      cells: undefined,
    };
  return { ...attention(q, k, v, { ...call, lengths: lengthsK, kvMap }), cells: undefined };
}

function attendPart(context: SelectContext, part: SelectionPart, options: CallOptions): { o: Tensor; lse: Tensor } {
  const { q, k, v, kvMap } = context;
  if ('done' in part) return part.done;
  if ('plan' in part) return plannedAttention(part.q ?? q, k, v, part.plan, callOf(context, options));
  const { pvSkip, precision } = options;
  return gatherAttention(q, k, v, part.indices, { ...callOf(context, { pvSkip, precision }), kvMap });
}

/** Options for the longest cache of the batch, of which those that follow the length are the most careful. */
function optionsFor(policy: ExecutorPolicy, { lenK }: SelectContext): ExecutorOptions {
  if (lenK !== undefined) return policy.options(Math.max(0, ...lenK));
  const options = constantOptions(policy);
  if (!options) throw new ExecutionError('attendByPolicy: the options depend on lenK, which a recorded step does not know');
  return options;
}

type ExecutorPolicy = Extract<AttentionPolicy, { readonly kind: 'executor' }>;

/** The options of a policy that has the same for every length; undefined when they differ. */
export function constantOptions({ options }: ExecutorPolicy): ExecutorOptions | undefined {
  const [first, ...others] = [1, 1000, 2 ** 20].map((lenK) => options(lenK));
  return others.every((other) => JSON.stringify(other) === JSON.stringify(first)) ? first : undefined;
}
