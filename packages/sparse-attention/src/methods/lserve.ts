import { OptionError, reduce, reshape, type Tensor } from '@filigree/core-tensor';
import { headPlanVersion, type HeadChoice, type HeadPlan } from '../head-plan.js';
import type { PlannedModel } from '../plan-file.js';
import { checkChoice, checkIntegers, defineMethod, type MethodOptions } from '../method.js';
import { reuseSteps } from '../reuse/reuse-steps.js';
import { boundScores } from '../select/bound-scores.js';
import { keyBounds, type PageBounds } from '../select/key-bounds.js';
import { selectRow } from '../select/select-row.js';
import { selectionIndices } from '../select/selection-indices.js';
import { groupReduces, sharedScores, type GroupReduce } from '../select/shared-scores.js';
import { isShort, placed } from '../select/step.js';
import type { Selector } from '../selector.js';

export interface LServeOptions {
  /** Keys that are taken or left together; divides the pages of the cache. */
  readonly page: number;
  /** Keys per bound; divides `page`. */
  readonly sub: number;
  /** Keys that a query sees, in whole pages, the first and the last among them. */
  readonly tokenBudget: number;
  /** Steps that see the same pages. */
  readonly reuse: number;
  /** How the query heads of a key-value head share pages; `none`: they do not. */
  readonly groupReduce: GroupReduce;
}

/**
 * LServe's retrieval heads: large pages by the bounds of small ones. A page counts as much as the best of its parts, whose bounds are tighter than its own
 * would be, and what was selected serves four steps.
 *
 * Reads 2 / sub of the keys in every `reuse`-th step and then the budget. Its streaming heads are a plan of heads: {@link lservePlan}.
 * Yang et al., "LServe: Efficient Long-sequence LLM Serving with Unified Sparse Attention", arXiv:2502.14866.
 *
 * @throws OptionError when an option is out of its range; from `init`, when pages of the cache are no multiple of page.
 */
export function lserve({ page, sub, tokenBudget, reuse, groupReduce }: LServeOptions): Selector<PageBounds> {
  checkIntegers('lserve', { page, sub, tokenBudget, reuse }, 1);
  if (page % sub !== 0) throw new OptionError(`lserve: sub is ${sub}, it must divide page, which is ${page}`);
  const pages = Math.max(2, Math.floor(tokenBudget / page));
  const selector: Selector<PageBounds> = {
    ...keyBounds('lserve', sub, page),
    select(context, state) {
      if (isShort(context, pages * page)) return 'dense';
      const { q, scale, lengths } = context;
      const bounds = boundScores(q, { ...state, page: sub }, { ...placed(context), scale });
      const scores = sharedScores('lserve', context, bestOfParts(bounds, page / sub), groupReduce);
      const { bits } = selectRow(scores, { lengths, topK: pages, sinks: 1, local: 1, blockK: page });
      return { parts: [selectionIndices(bits, { unit: page, slots: pages * page, lengths })] };
    },
  };
  return reuseSteps(selector, reuse);
}

/** Bounds [B, H, Lq, N · parts] → the greatest of each page, [B, H, Lq, N]. */
function bestOfParts(bounds: Tensor, parts: number): Tensor {
  const { shape } = bounds;
  return parts === 1 ? bounds : reduce(reshape(bounds, [...shape.slice(0, 3), shape[3] / parts, parts]), 'max', { axis: 4 });
}

/** {@link lserve} in the catalogue. */
export const lserveMethod = /* @__PURE__ */ defineMethod({
  id: 'lserve',
  title: 'LServe: large pages by bounds of small ones',
  paper: 'arXiv:2502.14866',
  phase: 'decode',
  training: 'none',
  emits: 'indices',
  options: { page: 64, sub: 16, tokenBudget: 4096, reuse: 4, groupReduce: 'none' },
  policy: ({ groupReduce, ...options }) => ({
    kind: 'selector',
    selector: lserve({ ...options, groupReduce: checkChoice('lserve', 'groupReduce', groupReduce, groupReduces) }),
  }),
});

/**
 * LServe's split of the heads: those whose keys far away matter least see sinks and a window, in prompts too; the others select pages while decoding.
 *
 * @param scores [layers][kvHeads]: how much a head needs keys far away, as DuoAttention's gates say. Of equal scores those of earlier heads count as smaller.
 * @param options `streaming`: share of the heads that stream; `sinks`, `local`: what they see; `lserve`: options of the others.
 * @throws OptionError when scores do not fit the model, or an option is out of its range.
 */
export function lservePlan(
  model: PlannedModel,
  scores: readonly (readonly number[])[],
  options: {
    readonly streaming?: number;
    readonly sinks?: number;
    readonly local?: number;
    readonly lserve?: MethodOptions;
  } = {},
): HeadPlan {
  const { streaming = 0.5, sinks = 128, local = 256, lserve: selecting = {} } = options;
  const { layers, heads, kvHeads } = model;
  if (!(streaming >= 0 && streaming <= 1)) throw new OptionError(`lservePlan: streaming is ${streaming}, it must lie in 0 … 1`);
  if (scores.length !== layers || scores.some((own) => own.length !== kvHeads || own.some(Number.isNaN)))
    throw new OptionError(`lservePlan: scores must be numbers for ${kvHeads} key-value heads of ${layers} layers`);
  lserveMethod.create(selecting);
  const all = scores.flat();
  const ascending = [...all.keys()].sort((a, b) => all[a] - all[b] || a - b);
  const streams = new Set(ascending.slice(0, Math.round(streaming * all.length)));
  const choice = (kvHead: number): HeadChoice =>
    streams.has(kvHead)
      ? { method: 'streaming-llm', options: { sinks, window: local } }
      : { method: 'lserve', options: selecting };
  const group = heads / kvHeads;
  return {
    version: headPlanVersion,
    model,
    calibration: { method: 'lserve', streaming },
    layers: Array.from({ length: layers }, (_, layer) => ({
      heads: Array.from({ length: heads }, (__, head) => choice(layer * kvHeads + Math.floor(head / group))),
    })),
  };
}
