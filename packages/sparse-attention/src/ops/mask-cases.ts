import { Random } from '@filigree/core-tensor';
import type * as FastCheck from 'fast-check';
import type { BlockMask } from '../mask.js';
import type { PerToken } from '../plan.js';

/** Sizes that a generated mask is for. */
export interface MaskCase {
  readonly batch: number;
  readonly heads: number;
  readonly lengthQ: number;
  readonly lengthK: number;
}

/** Masks of every kind: blocks with and without bits, columns, slashes, ranges, windows, packed documents, permuted tokens, ragged batches. */
export function maskOfCase(fc: typeof FastCheck, { batch, heads, lengthQ, lengthK }: MaskCase): FastCheck.Arbitrary<BlockMask> {
  return fc
    .record({
      seed: fc.nat(0x7fffffff),
      masks: fc.constantFrom(1, 1, heads),
      blockQ: fc.constantFrom(1, 4, 16, 16, 33, 64),
      blockK: fc.constantFrom(1, 8, 16, 64),
      causal: fc.constantFrom(true, true, false),
      window: fc.constantFrom(0, 0, 0, 7, 40),
      ragged: fc.boolean(),
      parts: fc.subarray(['blocks', 'bits', 'columns', 'columnBits', 'slashes', 'ranges', 'rangeBits'] as const, {
        minLength: 1,
      }),
      tokens: fc.constantFrom('none', 'none', 'segments', 'positions', 'both'),
    })
    .map(({ seed, masks, tokens, ragged, ...choice }) => {
      const random = new Random(seed);
      const lengths = (most: number): Int32Array =>
        Int32Array.from({ length: batch }, () => (ragged ? random.nextInt(most + 1) : most));
      const lenK = lengths(lengthK);
      const lenQ = lengths(lengthQ).map((length, index) => Math.min(length, lenK[index]));
      const sizes = { batch, maskHeads: masks, lenQ, lenK };
      // A mask has as many row blocks as its longest element; executors take queries beyond it for absent.
      const rows = batch * masks * Math.ceil(Math.max(0, ...lenQ) / choice.blockQ);
      return {
        ...sizes,
        headMap: Int32Array.from({ length: heads }, (_, head) => head % masks),
        qOffset: lenK.map((length, index) => length - lenQ[index]),
        ...{ blockQ: choice.blockQ, blockK: choice.blockK, causal: choice.causal, window: choice.window },
        segments: tokens === 'segments' || tokens === 'both' ? documents(random, batch, lengthQ, lengthK) : undefined,
        positions: tokens === 'positions' || tokens === 'both' ? permuted(random, batch, lengthQ, lengthK) : undefined,
        ...lists(random, { ...choice, rows, heads: batch * masks, lengthK: Math.max(1, ...lenK) }),
      };
    });
}

/** Ascending numbers below `bound`, each with a chance. */
function some(random: Random, bound: number, chance: number): number[] {
  return Array.from({ length: bound }, (_, index) => index).filter(() => random.nextFloat() < chance);
}

function documents(random: Random, batch: number, lengthQ: number, lengthK: number): PerToken {
  const ids = (length: number): Int32Array => Int32Array.from({ length: batch * length }, () => random.nextInt(2));
  return { q: ids(lengthQ), k: ids(lengthK) };
}

function permuted(random: Random, batch: number, lengthQ: number, lengthK: number): PerToken {
  const places = (length: number): Int32Array => Int32Array.from({ length: batch * length }, () => random.nextInt(lengthK + 1));
  return { q: places(lengthQ), k: places(lengthK) };
}

type Lists = Pick<
  BlockMask,
  | 'rowPtr'
  | 'colIdx'
  | 'kind'
  | 'bitPtr'
  | 'bits'
  | 'colPtr'
  | 'cols'
  | 'colBits'
  | 'slashPtr'
  | 'slashes'
  | 'rangePtr'
  | 'ranges'
  | 'rangeFlags'
>;

interface ListChoice {
  readonly rows: number;
  readonly heads: number;
  readonly lengthK: number;
  readonly blockQ: number;
  readonly blockK: number;
  readonly parts: readonly string[];
}

function lists(random: Random, { rows, heads, lengthK, blockQ, blockK, parts }: ListChoice): Lists {
  const has = (part: string): boolean => parts.includes(part);
  const words = Math.ceil(blockQ / 32);
  const bits: number[] = [];
  /** Where some more words of bits start. */
  const withBits = (count: number): number => {
    const from = bits.length;
    for (let word = 0; word < count; word++) bits.push(random.nextWord() >>> 0);
    return from;
  };
  const blocks = Array.from({ length: rows }, () =>
    has('blocks') || has('bits')
      ? some(random, Math.ceil(lengthK / blockK), Math.min(0.3, 3 / Math.ceil(lengthK / blockK)))
      : [],
  );
  const kinds = blocks.flat().map(() => (has('bits') ? random.nextInt(4) : 1));
  const bitPtr = kinds.map((kind) => (kind < 2 ? 0 : withBits(words * (kind === 3 ? blockK : 1))));
  const columns = Array.from({ length: rows }, () =>
    has('columns') || has('columnBits') ? some(random, lengthK, Math.min(0.1, 5 / lengthK)) : [],
  );
  const slashes = Array.from({ length: heads }, () =>
    has('slashes') ? some(random, lengthK, Math.min(0.05, 3 / lengthK)) : [],
  );
  const ranges = Array.from({ length: rows }, () =>
    Array.from({ length: has('ranges') || has('rangeBits') ? random.nextInt(3) : 0 }, () => {
      const start = random.nextInt(lengthK);
      return [start, start + 1 + random.nextInt(20)];
    }),
  );
  const flags = ranges.flat().map(([start, end]) => {
    const perKey = random.nextInt(2);
    return has('rangeBits') ? 2 + 2 * withBits(words * (perKey ? end - start : 1)) + perKey : 1;
  });
  return {
    rowPtr: pointers(blocks),
    colIdx: Int32Array.from(blocks.flat()),
    ...(has('bits') ? { kind: Uint8Array.from(kinds), bitPtr: Int32Array.from(bitPtr) } : {}),
    bits: bits.length > 0 ? Uint32Array.from(bits) : undefined,
    colPtr: pointers(columns),
    cols: Int32Array.from(columns.flat()),
    colBits: has('columnBits')
      ? Uint32Array.from(columns.flat().flatMap(() => Array.from({ length: words }, () => random.nextWord() >>> 0)))
      : undefined,
    slashPtr: pointers(slashes),
    slashes: Int32Array.from(slashes.flat()),
    rangePtr: pointers(ranges),
    ranges: Int32Array.from(ranges.flat(2)),
    rangeFlags: Int32Array.from(flags),
  };
}

function pointers(rows: readonly (readonly unknown[])[]): Int32Array {
  let at = 0;
  return Int32Array.from([0, ...rows.map((row) => (at += row.length))]);
}
