import { empty, fromArray, keep, OptionError, type Tensor } from '@filigree/core-tensor';
import { checkIntegers, defineMethod } from '../method.js';
import { appendLabelsOp } from '../select/append-labels.js';
import { labelScores } from '../select/label-scores.js';
import { selectRow } from '../select/select-row.js';
import { selectionIndices } from '../select/selection-indices.js';
import { isShort, placed } from '../select/step.js';
import type { LayerInfo, Selector } from '../selector.js';

export interface DoubleSparsityOptions {
  /** Keys that a query sees beside the recent ones: those with the greatest estimates. */
  readonly heavy: number;
  /** Newest keys, which it sees whatever their estimates. */
  readonly recent: number;
  /** First layers, which stay dense. */
  readonly denseLayers: number;
  /** Channels per label as a share of the head's, where `channels` names none. */
  readonly share: number;
  /**
   * Channels of the labels as calibration found them: layers separated by `;`, key-value heads by `|`, channels by spaces. Empty: pairs spread evenly
   * over the slower half of the rotary frequencies, which is a guess; rotary halves are taken to lie as in Llama, channel c beside c + D/2.
   */
  readonly channels: string;
}

/** A few channels of every key, [pages, Hk, P, r], and which they are, i32 [Hk, r]. */
export interface LabelCache {
  readonly labels: Tensor;
  readonly channels: Tensor;
}

/**
 * Double Sparsity: a few channels find the tokens. Beside the keys stands a label of r of their channels; q·label over the same channels estimates the score, and a
 * query sees the `heavy` keys with the greatest estimates and the recent ones.
 *
 * Reads r/D of the keys and then heavy + recent. Labels have the type of the cache; which channels carry the scores is what calibration finds.
 * Yang et al., "Post-Training Sparse Attention with Double Sparsity", arXiv:2408.07092.
 *
 * @throws OptionError when an option is out of its range; from `init`, when channels do not fit the layer.
 */
export function doubleSparsity(options: DoubleSparsityOptions): Selector<LabelCache> {
  const { heavy, recent, denseLayers, share, channels } = options;
  checkIntegers('double-sparsity', { recent }, 1);
  checkIntegers('double-sparsity', { heavy, denseLayers });
  if (!(share > 0 && share <= 1)) throw new OptionError(`double-sparsity: share is ${share}, it must lie in 0 … 1`);
  const listed = readChannels(channels);
  return {
    init(layer) {
      const { backend, pages, kvHeads, pageSize, dtype } = layer;
      const chosen = listed ? channelsOfLayer(listed, layer) : slowChannels(layer, share);
      return {
        labels: keep(empty(backend, [pages, kvHeads, pageSize, chosen[0].length], dtype)),
        channels: keep(fromArray(backend, chosen.flat(), [kvHeads, chosen[0].length], 'i32')),
      };
    },
    append(state, { pages: k, slots }) {
      appendLabelsOp({ ...state, k, slots }, {});
    },
    pages: ({ labels }) => [labels],
    dispose({ labels, channels: chosen }) {
      labels.dispose();
      chosen.dispose();
    },
    select(context, state) {
      if (context.layer < denseLayers || isShort(context, heavy + recent)) return 'dense';
      const { q, scale, lengths } = context;
      const scores = labelScores(q, state, { ...placed(context), scale });
      const { bits } = selectRow(scores, { lengths, topK: heavy + recent, local: recent });
      return { parts: [selectionIndices(bits, { slots: heavy + recent, lengths })] };
    },
  };
}

/** [layers][heads][channels]; undefined for an empty text. */
function readChannels(text: string): number[][][] | undefined {
  if (text.trim() === '') return undefined;
  return text.split(';').map((layer) =>
    layer.split('|').map((head) =>
      head
        .trim()
        .split(/\s+/)
        .map((word) => {
          if (!/^\d+$/.test(word))
            throw new OptionError(`double-sparsity: channels has "${word}", it takes numbers of channels`);
          return Number(word);
        }),
    ),
  );
}

function channelsOfLayer(listed: number[][][], { layer, layers, kvHeads, headDim }: LayerInfo): number[][] {
  if (listed.length !== layers)
    throw new OptionError(`double-sparsity: channels lists ${listed.length} layers, the model has ${layers}`);
  const heads = listed[layer];
  if (heads.length !== kvHeads || heads.some((own) => own.length !== heads[0].length))
    throw new OptionError(`double-sparsity: channels must list as many for each of the ${kvHeads} heads of layer ${layer}`);
  const outside = heads.flat().find((channel) => channel >= headDim);
  if (outside !== undefined)
    throw new OptionError(`double-sparsity: channels names ${outside} in layer ${layer}, heads have ${headDim}`);
  return heads;
}

/** Pairs of channels spread over the slower half of the frequencies, and over all where that is too few; the same for every head. */
function slowChannels({ kvHeads, headDim }: LayerInfo, share: number): number[][] {
  const half = headDim / 2;
  const pairs = Math.min(half, Math.max(1, Math.round((share * headDim) / 2)));
  const first = Math.min(Math.floor(half / 2), half - pairs);
  const chosen = Array.from({ length: pairs }, (_, index) => first + Math.floor(((index + 0.5) * (half - first)) / pairs));
  return Array.from({ length: kvHeads }, () => [...chosen, ...chosen.map((channel) => channel + half)]);
}

/** {@link doubleSparsity} in the catalogue. */
export const doubleSparsityMethod = /* @__PURE__ */ defineMethod({
  id: 'double-sparsity',
  title: 'Double Sparsity: tokens by a few channels',
  paper: 'arXiv:2408.07092',
  phase: 'decode',
  training: 'calibration',
  emits: 'indices',
  options: { heavy: 256, recent: 16, denseLayers: 2, share: 0.25, channels: '' },
  policy: (options) => ({ kind: 'selector', selector: doubleSparsity(options) }),
});
