import { checkChoice, checkIntegers, defineMethod } from '../method.js';
import { boundScores } from '../select/bound-scores.js';
import { keyBounds, type PageBounds } from '../select/key-bounds.js';
import { selectRow } from '../select/select-row.js';
import { selectionIndices } from '../select/selection-indices.js';
import { sharedScores } from '../select/shared-scores.js';
import { isShort, placed } from '../select/step.js';
import type { Selector } from '../selector.js';

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
    ...keyBounds('quest', pageSize),
    select(context, state) {
      if (context.layer < denseLayers || isShort(context, pages * pageSize)) return 'dense';
      const { q, scale, lengths } = context;
      const bounds = boundScores(q, { ...state, page: pageSize }, { ...placed(context), scale });
      const scores = sharedScores('quest', context, bounds, groupReduce);
      const { bits } = selectRow(scores, { lengths, topK: pages, local: 1, blockK: pageSize });
      return { parts: [selectionIndices(bits, { unit: pageSize, slots: pages * pageSize, lengths })] };
    },
  };
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
