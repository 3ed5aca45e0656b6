import { Random, type HostTensor, type OpCase } from '@filigree/core-tensor';
import type * as FastCheck from 'fast-check';
import { wordsOf } from './row-blocks.js';

/** Bits of which about a third are set, none beyond the last; `dense` sets nearly all of them. */
export function randomBits(random: Random, shape: readonly number[], bits: number, dense: boolean): HostTensor {
  const words = wordsOf(bits);
  const rows = shape.reduce((product, size) => product * size, 1);
  const data = new Uint32Array(rows * words);
  for (let row = 0; row < rows; row++) {
    for (let bit = 0; bit < bits; bit++) {
      const set = dense ? random.nextInt(8) !== 0 : random.nextInt(3) === 0;
      if (set) data[row * words + (bit >>> 5)] |= 1 << (bit & 31);
    }
  }
  return { shape: [...shape, words], dtype: 'u32', data };
}

export function lowerCases(fc: typeof FastCheck): FastCheck.Arbitrary<OpCase> {
  return fc
    .record({
      seed: fc.nat(0x7fffffff),
      batch: fc.constantFrom(0, 1, 1, 2),
      kvHeads: fc.constantFrom(1, 2),
      group: fc.constantFrom(1, 2),
      lengthQ: fc.oneof(fc.constant(1), fc.nat(20)),
      past: fc.oneof(fc.constant(0), fc.nat(30)),
      blockQ: fc.constantFrom(1, 4, 16),
      blockK: fc.constantFrom(1, 4, 16),
      slashStep: fc.constantFrom(1, 1, 4),
      given: fc.record({
        blocks: fc.boolean(),
        moreBlocks: fc.boolean(),
        columns: fc.boolean(),
        slashes: fc.boolean(),
        ranges: fc.boolean(),
        lengths: fc.boolean(),
        kvMap: fc.boolean(),
      }),
      heads: fc.array(fc.nat(2), { minLength: 4, maxLength: 4 }),
      oneRow: fc.boolean(),
      groups: fc.constantFrom(1, 2, 3),
      dense: fc.boolean(),
      maxSlashes: fc.constantFrom(-1, -1, 0, 2),
      maxColumns: fc.constantFrom(-1, -1, 0, 5),
      excluded: fc.nat(2),
      window: fc.constantFrom(0, 0, 1, 7),
    })
    .map((drawn): OpCase => {
      const { batch, kvHeads, lengthQ, blockQ, blockK, slashStep, given } = drawn;
      const random = new Random(drawn.seed);
      const heads = kvHeads * drawn.group;
      const rows = Math.ceil(lengthQ / blockQ);
      const capacity = lengthQ + drawn.past;
      const choices = [1, kvHeads, heads];
      const source = (index: number, name: keyof typeof given, groups: number, bits: number): HostTensor | undefined =>
        given[name] ? randomBits(random, [batch, choices[drawn.heads[index]], groups], bits, drawn.dense) : undefined;
      const lengths = Int32Array.from({ length: 2 * batch }, (_, index) =>
        random.nextInt(1 + (index % 2 === 0 ? lengthQ : capacity)),
      );
      const ranges = Int32Array.from({ length: 3 * 2 * (drawn.oneRow ? 1 : rows) }, () => random.nextInt(30) - 12);
      const kvMap = Int32Array.from({ length: heads }, () => random.nextInt(kvHeads));
      const count = Object.values(given).filter(Boolean).length;
      const inputs = {
        blocks: source(0, 'blocks', drawn.oneRow ? 1 : rows, Math.ceil(capacity / blockK)),
        moreBlocks: source(1, 'moreBlocks', 1, Math.ceil(capacity / blockK)),
        columns: source(2, 'columns', drawn.groups, capacity),
        slashes: source(3, 'slashes', 1, Math.ceil(capacity / slashStep)),
        ranges: given.ranges ? ({ shape: [drawn.oneRow ? 1 : rows, 3, 2], dtype: 'i32', data: ranges } as const) : undefined,
        lengths:
          given.lengths || count === 0 || (count === 1 && given.kvMap)
            ? ({ shape: [batch, 2], dtype: 'i32', data: lengths } as const)
            : undefined,
        kvMap: given.kvMap && count < 7 ? ({ shape: [heads], dtype: 'i32', data: kvMap } as const) : undefined,
      };
      return {
        inputs,
        attributes: {
          lengthQ,
          heads,
          blockQ,
          blockK,
          capacity,
          slashStep,
          maxSlashes: drawn.maxSlashes,
          maxColumns: drawn.maxColumns,
          excluded: given.ranges ? drawn.excluded : 0,
          window: drawn.window,
        },
      };
    });
}
