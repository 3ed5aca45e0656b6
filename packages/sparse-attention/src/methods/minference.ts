import { reshape } from '@filigree/core-tensor';
import { checkIntegers, defineMethod } from '../method.js';
import { probeSums } from '../select/probe-sums.js';
import { selectRow } from '../select/select-row.js';
import { isShort, lowered, placed, stepSizes } from '../select/step.js';
import type { Selector } from '../selector.js';

export interface VerticalSlashOptions {
  /** Keys that all queries see; at least 30. */
  readonly vertical: number;
  /** Distances at which all queries look back; at least 50. */
  readonly slash: number;
  /** Queries at the end of the step that are asked. */
  readonly lastQ: number;
  /** First keys that are taken whatever they score; they count among `vertical`. */
  readonly sinkTokens: number;
  /** Least distances that are taken whatever they score; they count among `slash`. */
  readonly localDiagonals: number;
  /** Up to so many keys attention is dense. */
  readonly denseBelow: number;
}

/** Queries per row block. */
const blockQ = 64;

/**
 * The vertical-slash heads of MInference: exact attention of the last queries tells which keys and which distances the head looks at. Row blocks of 64
 * queries see the keys of the chosen columns and, for every chosen distance o, the band [a − o, a − o + 64) from the block's first position a on.
 *
 * In a chunk of a prompt the queries asked are the last ones of the chunk. 4·lastQ·L·D operations a head, and a selection of L columns and L distances.
 * Jiang et al., "MInference 1.0", arXiv:2407.02490. Which heads are of this kind, and with how many columns and distances, its authors find by a search over
 * one prompt; heads that the search does not name take the defaults here.
 */
export function verticalSlash(options: VerticalSlashOptions): Selector {
  const { vertical, slash, lastQ, sinkTokens, localDiagonals, denseBelow } = options;
  checkIntegers('minference', { vertical, slash, sinkTokens, localDiagonals, denseBelow });
  checkIntegers('minference', { lastQ }, 1);
  const [columns, distances] = [Math.max(vertical, sinkTokens, 30), Math.max(slash, localDiagonals, 50)];
  return {
    select(context) {
      if (isShort(context, denseBelow)) return 'dense';
      const { batch, heads, lengthQ, capacity } = stepSizes(context);
      const { q, k, scale, softcap, lengths } = context;
      const sums = probeSums(q, k, { ...placed(context), rows: lastQ, scale, softcap });
      const best = (scores: typeof sums.columns, topK: number, sinks: number): ReturnType<typeof selectRow> =>
        selectRow(reshape(scores, [batch, heads, 1, capacity]), { lengths, topK, sinks, blockQ: lengthQ });
      const part = lowered(
        context,
        {
          columns: best(sums.columns, columns, sinkTokens).bits,
          slashes: best(sums.diagonals, distances, localDiagonals).bits,
        },
        { blockQ, maxColumns: columns, maxSlashes: distances },
      );
      return { parts: [part] };
    },
  };
}

/** {@link verticalSlash} in the catalogue. */
export const minference = /* @__PURE__ */ defineMethod({
  id: 'minference',
  title: 'MInference, vertical-slash heads',
  paper: 'arXiv:2407.02490',
  phase: 'prefill',
  training: 'none',
  emits: 'slashes, columns',
  options: { vertical: 1000, slash: 6096, lastQ: 64, sinkTokens: 30, localDiagonals: 100, denseBelow: 0 },
  policy: (options) => ({ kind: 'selector', selector: verticalSlash(options) }),
});
