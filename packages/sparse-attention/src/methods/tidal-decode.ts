import type { Tensor } from '@filigree/core-tensor';
import { checkChoice, checkIntegers, defineMethod, readIntegers } from '../method.js';
import { reuseLayers } from '../reuse/reuse-layers.js';
import { allChannels, exactScores } from '../select/exact-scores.js';
import { selectRow } from '../select/select-row.js';
import { selectionIndices } from '../select/selection-indices.js';
import { groupReduces, sharedScores, type GroupReduce } from '../select/shared-scores.js';
import { isShort } from '../select/step.js';
import type { Selector } from '../selector.js';

export interface TopKeysOptions {
  /** Keys that a query sees, the newest among them. */
  readonly topK: number;
  /** `sum`, `max`: the query heads of a key-value head share keys. */
  readonly groupReduce: GroupReduce;
}

/**
 * The keys with the greatest scores, exactly: what selectors with estimates are measured against. Reads every key, and the values of `topK`.
 * @throws OptionError when topK is not a positive integer.
 */
export function topKeys({ topK, groupReduce }: TopKeysOptions, method = 'top-keys'): Selector<{ readonly channels: Tensor }> {
  checkIntegers(method, { topK }, 1);
  return {
    init: (layer) => ({ channels: allChannels(layer) }),
    dispose({ channels }) {
      channels.dispose();
    },
    select(context, { channels }) {
      if (isShort(context, topK)) return 'dense';
      const { lengths } = context;
      const scores = sharedScores(method, context, exactScores(context, channels), groupReduce);
      const { bits } = selectRow(scores, { lengths, topK, local: 1 });
      return { parts: [selectionIndices(bits, { slots: topK, lengths })] };
    },
  };
}

export interface TidalDecodeOptions extends TopKeysOptions {
  /** Layers that see all keys and select for those that follow; those before the first of them are dense. */
  readonly select: readonly number[];
  /** Whether selecting layers see everything, as they have looked at it anyway. */
  readonly denseSelect: boolean;
}

/**
 * TidalDecode: keys that matter in one layer matter in those after it. Two layers attend to all keys and keep the positions with the greatest scores;
 * the layers behind see these positions of their own caches. The best second layer differs from model to model.
 *
 * Costs full attention in the dense and selecting layers and `topK` keys in the others.
 * Yang et al., "TidalDecode: Fast and Accurate LLM Decoding with Position Persistent Sparse Attention", arXiv:2410.05076.
 *
 * @throws OptionError when an option is out of its range.
 */
export function tidalDecode({ select, denseSelect, ...keys }: TidalDecodeOptions): Selector<{ readonly channels: Tensor }> {
  return reuseLayers(topKeys(keys, 'tidal-decode'), { select, denseSelect });
}

/** {@link tidalDecode} in the catalogue; `select` lists layers, separated by spaces. */
export const tidalDecodeMethod = /* @__PURE__ */ defineMethod({
  id: 'tidal-decode',
  title: 'TidalDecode: positions of two layers for all',
  paper: 'arXiv:2410.05076',
  phase: 'decode',
  training: 'none',
  emits: 'indices',
  options: { topK: 256, select: '2 13', denseSelect: true, groupReduce: 'none' },
  policy: ({ select, groupReduce, ...options }) => ({
    kind: 'selector',
    selector: tidalDecode({
      ...options,
      select: readIntegers('tidal-decode', { select }),
      groupReduce: checkChoice('tidal-decode', 'groupReduce', groupReduce, groupReduces),
    }),
  }),
});
