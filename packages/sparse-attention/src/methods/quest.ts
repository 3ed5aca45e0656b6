import { empty, keep, OptionError, reduce, reshape, softmax, type Tensor } from '@filigree/core-tensor';
import { checkChoice, checkIntegers, defineMethod } from '../method.js';
import { boundScores } from '../select/bound-scores.js';
import { pageBoundsOp } from '../select/page-bounds.js';
import { selectRow } from '../select/select-row.js';
import { selectionIndices } from '../select/selection-indices.js';
import { isShort, placed, stepSizes } from '../select/step.js';
import type { SelectContext, Selector } from '../selector.js';

const groupReduces = ['none', 'sum'] as const;

export interface QuestOptions {
  /** Keys per bound; divides the pages of the cache. */
  readonly pageSize: number;
  /** Keys that a query sees, in whole pages. */
  readonly tokenBudget: number;
  /** Pages that it sees at least. */
  readonly minPages: number;
  /** First layers, which stay dense: their attention is spread out. */
  readonly denseLayers: number;
  /** `sum`: the query heads of a key-value head share pages, those with the largest sum of their softmaxed bounds. */
  readonly groupReduce: (typeof groupReduces)[number];
}

/** Least and greatest keys of every page, [pages, Hk, P / pageSize, D]. */
export interface PageBounds {
  readonly keyMin: Tensor;
  readonly keyMax: Tensor;
}

/**
 * Quest: bounds find the pages. Beside the keys stand, per page and channel, the least and the greatest value; Σ max(q·min, q·max) is at least every score of the
 * page. A query sees the pages with the greatest bounds, its own among them.
 *
 * Reads 2 / pageSize of the keys and then the budget. Bounds loosen with larger pages and fast rotary channels.
 * Tang et al., "Quest: Query-Aware Sparsity for Efficient Long-Context LLM Inference", arXiv:2406.10774.
 *
 * @throws OptionError when an option is out of its range; from `init`, when pages of the cache are no multiple of pageSize.
 */
export function quest({ pageSize, tokenBudget, minPages, denseLayers, groupReduce }: QuestOptions): Selector<PageBounds> {
  checkIntegers('quest', { pageSize, tokenBudget, minPages }, 1);
  checkIntegers('quest', { denseLayers });
  const pages = Math.max(minPages, Math.floor(tokenBudget / pageSize));
  return {
    init({ backend, pages: count, kvHeads, pageSize: entries, headDim, dtype }) {
      if (entries % pageSize !== 0)
        throw new OptionError(`quest: pageSize is ${pageSize}, the cache has pages of ${entries} keys`);
      const bounds = (): Tensor => keep(empty(backend, [count, kvHeads, entries / pageSize, headDim], dtype));
      return { keyMin: bounds(), keyMax: bounds() };
    },
    append(state, { pages: k, slots }) {
      pageBoundsOp({ ...state, k, slots }, {});
    },
    pages: ({ keyMin, keyMax }) => [keyMin, keyMax],
    dispose({ keyMin, keyMax }) {
      keyMin.dispose();
      keyMax.dispose();
    },
    select(context, state) {
      if (context.layer < denseLayers || isShort(context, pages * pageSize)) return 'dense';
      const { q, scale, lengths } = context;
      const bounds = boundScores(q, { ...state, page: pageSize }, { ...placed(context), scale });
      const scores = groupReduce === 'sum' ? sharedScores(context, bounds) : bounds;
      const { bits } = selectRow(scores, { lengths, topK: pages, local: 1, blockK: pageSize });
      return { parts: [selectionIndices(bits, { unit: pageSize, slots: pages * pageSize, lengths })] };
    },
  };
}

/** Bounds [B, Hq, Lq, N] → sums of their softmax over the query heads of each key-value head, [B, Hk, Lq, N]. */
function sharedScores(context: SelectContext, bounds: Tensor): Tensor {
  const { batch, heads, kvHeads, lengthQ } = stepSizes(context);
  if (context.kvMap) throw new OptionError('quest: groupReduce sum takes contiguous groups of query heads, not a kvMap');
  const grouped = reshape(softmax(bounds), [batch, kvHeads, heads / kvHeads, lengthQ, bounds.shape[3]]);
  return reduce(grouped, 'sum', { axis: 2 });
}

/** {@link quest} in the catalogue. */
export const questMethod = /* @__PURE__ */ defineMethod({
  id: 'quest',
  title: 'Quest: pages by bounds of their keys',
  paper: 'arXiv:2406.10774',
  phase: 'decode',
  training: 'none',
  emits: 'indices',
  options: { pageSize: 16, tokenBudget: 1024, minPages: 3, denseLayers: 2, groupReduce: 'none' },
  policy: ({ groupReduce, ...options }) => ({
    kind: 'selector',
    selector: quest({ ...options, groupReduce: checkChoice('quest', 'groupReduce', groupReduce, groupReduces) }),
  }),
});
