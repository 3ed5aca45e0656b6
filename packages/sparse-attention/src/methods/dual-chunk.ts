import { ExecutionError, mul, OptionError, type Tensor } from '@filigree/core-tensor';
import { checkIntegers, defineMethod } from '../method.js';
import { lowerSelection } from '../select/lower-selection.js';
import { constant, stepSizes } from '../select/step.js';
import type { SelectContext, SelectionPart, Selector } from '../selector.js';

export interface DualChunkOptions {
  /** No distance between a query and a key becomes larger. */
  readonly chunkSize: number;
  /** Distances up to here stay what they are; chunks are of chunkSize − localSize positions. */
  readonly localSize: number;
  /** Positions the model was trained with: beyond them scores grow by 0.1 · ln(position / originalMax) + 1. 0: they do not. */
  readonly originalMax: number;
}

/**
 * Dual chunk attention, as Qwen2.5-1M reads more than it was trained on: positions are taken within chunks, so that no rotary distance exceeds `chunkSize`. With chunks
 * of c positions, a key counts as j mod c. A query counts as p mod c for its own chunk, as min(p mod c + c, chunkSize) for the chunk before, and as chunkSize for older ones.
 *
 * Keys stay in the cache rotated by their positions j; queries are rotated by the difference instead, once for the chunk before and once for every older chunk, and the
 * parts are merged. A prompt of up to c tokens is plain attention. All cells are seen: its sparse companion is a plan of vertical-slash heads. Layers without
 * rotary positions are dense.
 *
 * "Qwen2.5-1M Technical Report", arXiv:2501.15383; An et al., "Training-Free Long-Context Scaling of Large Language Models", arXiv:2402.17463.
 *
 * @throws OptionError when an option is out of its range; ExecutionError when the host does not know lengths, or elements of a batch begin at different positions.
 */
export function dualChunk({ chunkSize, localSize, originalMax }: DualChunkOptions): Selector {
  checkIntegers('dual-chunk', { chunkSize, localSize }, 1);
  checkIntegers('dual-chunk', { originalMax });
  if (localSize >= chunkSize)
    throw new OptionError(`dual-chunk: localSize is ${localSize}, it must be below chunkSize, ${chunkSize}`);
  const chunk = chunkSize - localSize;
  return {
    needsLengths: true,
    select(context) {
      if (!context.rotate) return 'dense';
      const { first, last } = queryPositions(context);
      if (last < chunk && (originalMax === 0 || last < originalMax)) return 'dense';
      const scores = (position: number): number =>
        originalMax === 0 ? 1 : Math.max(1, 0.1 * Math.log((position + 1) / originalMax) + 1);
      const part = (by: (position: number) => number, keys: (own: number) => readonly [number, number]): SelectionPart => ({
        q: queries(context, first, by, scores),
        ...segment(context, first, chunk, keys),
      });
      const parts = [
        part(
          () => 0,
          (own) => [own * chunk, 0],
        ),
      ];
      const newest = Math.floor(last / chunk);
      if (newest >= 1)
        parts.push(
          part(
            (position) => Math.min(0, localSize - (position % chunk)),
            (own) => (own >= 1 ? [(own - 1) * chunk, own * chunk] : nothing),
          ),
        );
      for (let older = 0; older <= newest - 2; older++)
        parts.push(
          part(
            (position) => chunkSize + older * chunk - position,
            (own) => (older <= own - 2 ? [older * chunk, (older + 1) * chunk] : nothing),
          ),
        );
      return { parts };
    },
  };
}

/** A range without keys. */
const nothing = [1, 1] as const;

/** Positions of the first and last query of the step. */
function queryPositions({ lenQ, lenK }: SelectContext): { first: number; last: number } {
  if (lenK === undefined) throw new ExecutionError('dual-chunk: a recorded step does not know lenK');
  const firsts = lenK.map((length, element) => length - lenQ[element]);
  if (firsts.some((first) => first !== firsts[0]))
    throw new ExecutionError(
      `dual-chunk: elements of the batch begin at positions ${firsts.join(', ')}, they must begin at one`,
    );
  return { first: firsts[0], last: Math.max(...lenK) - 1 };
}

/** The step's queries, rotated and scaled for the keys of a part. */
function queries(
  context: SelectContext,
  first: number,
  by: (position: number) => number,
  factor: (position: number) => number,
): Tensor {
  const { lengthQ } = stepSizes(context);
  const positions = Array.from({ length: lengthQ }, (_, query) => first + query);
  const turns = positions.map(by);
  const turned =
    turns.some((turn) => turn !== 0) && context.rotate
      ? context.rotate(context.q, constant(context, turns, [lengthQ], 'i32'))
      : context.q;
  const factors = positions.map(factor);
  if (factors.every((value) => value === 1)) return turned;
  const shape = context.queryLayout === 'bhld' ? [1, 1, lengthQ, 1] : [1, lengthQ, 1, 1];
  return mul(turned, constant(context, factors, shape));
}

/** The plan of the keys that queries of chunk `own` see in a part. Row blocks lie within chunks. */
function segment(
  context: SelectContext,
  first: number,
  chunk: number,
  keys: (own: number) => readonly [number, number],
): { plan: Tensor; cells: Tensor } {
  const { lengthQ, heads, capacity } = stepSizes(context);
  const blockQ = [64, 32, 16].find((size) => chunk % size === 0 && first % size === 0) ?? 1;
  const rows = Math.ceil(lengthQ / blockQ);
  const ranges = Array.from({ length: rows }, (_, row) => keys(Math.floor((first + row * blockQ) / chunk)));
  const { lengths, kvMap } = context;
  const given = constant(context, ranges.flat(), [rows, 1, 2], 'i32');
  return lowerSelection({ ranges: given, lengths, kvMap }, { lengthQ, heads, capacity, blockQ });
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
