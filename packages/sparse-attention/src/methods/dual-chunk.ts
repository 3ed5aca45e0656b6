import { OptionError } from '@filigree/core-tensor';
import { checkIntegers, defineMethod } from '../method.js';
import {
  chunkSegments,
  queryPositions,
  rangesByRow,
  rowsWithinChunks,
  turnedQueries,
  type ChunkPositions,
} from '../select/chunk-segments.js';
import { lowerSelection } from '../select/lower-selection.js';
import { stepSizes } from '../select/step.js';
import type { SelectContext, Selection, Selector } from '../selector.js';

export type DualChunkOptions = ChunkPositions;

/**
 * Dual chunk attention, as Qwen2.5-1M reads more than it was trained on: positions are taken within chunks, so that no rotary distance exceeds `chunkSize`. With chunks
 * of c positions, a key counts as j mod c. A query counts as p mod c for its own chunk, as min(p mod c + c, chunkSize) for the chunk before, and as chunkSize for older ones.
 *
 * Keys stay in the cache rotated by their positions j; queries are rotated by the difference instead, once for the chunk before and once for every older chunk, and the
 * parts are merged. A prompt of up to c tokens is plain attention. All cells are seen: its sparse companion is
 * {@link dualChunkSparse}. Layers without rotary positions are dense.
 *
 * "Qwen2.5-1M Technical Report", arXiv:2501.15383; An et al., "Training-Free Long-Context Scaling of Large Language Models", arXiv:2402.17463.
 *
 * @throws OptionError when an option is out of its range; ExecutionError when the host does not know lengths, or elements of a batch begin at different positions.
 */
export function dualChunk(options: DualChunkOptions): Selector {
  const chunk = checkedChunk('dual-chunk', options);
  const select = (context: SelectContext): Selection => {
    if (!context.rotate) return 'dense';
    const { last } = queryPositions(context);
    if (last < chunk && (options.originalMax === 0 || last < options.originalMax)) return 'dense';
    const { lengthQ, heads, capacity } = stepSizes(context);
    const { lengths, kvMap } = context;
    const blockQ = rowsWithinChunks(context, chunk);
    const parts = chunkSegments(options, Math.floor(last / chunk)).map((segment) => {
      const ranges = rangesByRow(context, { blockQ, chunk }, (own) => [segment.keys(own)]);
      return {
        q: turnedQueries(context, segment, options),
        ...lowerSelection({ ranges, lengths, kvMap }, { lengthQ, heads, capacity, blockQ }),
      };
    });
    return { parts };
  };
  return { needsLengths: true, select, dense: select };
}

/** Positions per chunk. @throws OptionError when there are none, or an option is out of its range. */
export function checkedChunk(method: string, { chunkSize, localSize, originalMax }: ChunkPositions): number {
  checkIntegers(method, { chunkSize, localSize }, 1);
  checkIntegers(method, { originalMax });
  if (localSize >= chunkSize)
    throw new OptionError(`${method}: localSize is ${localSize}, it must be below chunkSize, ${chunkSize}`);
  return chunkSize - localSize;
}

/** {@link dualChunk} in the catalogue. */
export const dualChunkMethod = /* @__PURE__ */ defineMethod({
  id: 'dual-chunk',
  title: 'Dual chunk positions (Qwen2.5-1M)',
  paper: 'arXiv:2501.15383',
  phase: 'both',
  training: 'none',
  emits: 'ranges',
  options: { chunkSize: 8192, localSize: 1024, originalMax: 0 },
  policy: (options) => ({ kind: 'selector', selector: dualChunk(options) }),
});
