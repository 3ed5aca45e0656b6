import { Random, type HostTensor, type OpCase } from '@filigree/core-tensor';
import type * as FastCheck from 'fast-check';
import { layoutOf, type LoweringSizes } from './lowered-layout.js';
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

type Source = 'blocks' | 'moreBlocks' | 'columns' | 'slashes' | 'ranges' | 'lengths' | 'kvMap';

/** What is given together: a shader of its own each, of which a software device makes few in a second. */
const combinations: readonly (readonly Source[])[] = /* @__PURE__ */ Object.freeze([
  ['lengths'],
  ['blocks'],
  ['slashes', 'kvMap'],
  ['ranges', 'lengths'],
  ['columns', 'slashes', 'lengths'],
  ['blocks', 'moreBlocks', 'ranges', 'kvMap'],
  ['blocks', 'columns', 'ranges', 'lengths'],
  ['blocks', 'moreBlocks', 'columns', 'slashes', 'lengths', 'kvMap'],
  ['blocks', 'columns', 'slashes', 'ranges', 'lengths', 'kvMap'],
]);

export function lowerCases(fc: typeof FastCheck): FastCheck.Arbitrary<OpCase> {
  return fc
    .record({
      seed: fc.nat(0x7fffffff),
      batch: fc.constantFrom(0, 1, 1, 2),
      kvHeads: fc.constantFrom(1, 2),
      group: fc.constantFrom(1, 2),
      lengthQ: fc.oneof(fc.constant(1), fc.nat(20)),
      past: fc.oneof(fc.constant(0), fc.nat(24)),
      blockQ: fc.constantFrom(1, 4, 16),
      blockK: fc.constantFrom(1, 4, 16),
      slashStep: fc.constantFrom(1, 1, 4),
      given: fc.constantFrom(...combinations),
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
      const source = (index: number, name: Source, groups: number, bits: number): HostTensor | undefined =>
        given.includes(name) ? randomBits(random, [batch, choices[drawn.heads[index]], groups], bits, drawn.dense) : undefined;
      const lengths = Int32Array.from({ length: 2 * batch }, (_, index) =>
        random.nextInt(1 + (index % 2 === 0 ? lengthQ : capacity)),
      );
      const ranges = Int32Array.from({ length: 3 * 2 * (drawn.oneRow ? 1 : rows) }, () => random.nextInt(30) - 12);
      const kvMap = Int32Array.from({ length: heads }, () => random.nextInt(kvHeads));
      const inputs = {
        blocks: source(0, 'blocks', drawn.oneRow ? 1 : rows, Math.ceil(capacity / blockK)),
        moreBlocks: source(1, 'moreBlocks', 1, Math.ceil(capacity / blockK)),
        columns: source(2, 'columns', drawn.groups, capacity),
        slashes: source(3, 'slashes', 1, Math.ceil(capacity / slashStep)),
        ranges: given.includes('ranges')
          ? ({ shape: [drawn.oneRow ? 1 : rows, 3, 2], dtype: 'i32', data: ranges } as const)
          : undefined,
        lengths: given.includes('lengths') ? ({ shape: [batch, 2], dtype: 'i32', data: lengths } as const) : undefined,
        kvMap: given.includes('kvMap') ? ({ shape: [heads], dtype: 'i32', data: kvMap } as const) : undefined,
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
          excluded: given.includes('ranges') ? drawn.excluded : 0,
          window: drawn.window,
        },
      };
    })
    .filter(({ inputs, attributes }) => planWords(inputs, attributes) <= 900);
}

/** The plan is bound whole, and bindings of the smallest device under test hold 900 words. */
function planWords(inputs: OpCase['inputs'], attributes: OpCase['attributes']): number {
  const number = (name: keyof LoweringSizes): number => Number(attributes[name]);
  return layoutOf(inputs, {
    lengthQ: number('lengthQ'),
    heads: number('heads'),
    blockQ: number('blockQ'),
    blockK: number('blockK'),
    capacity: number('capacity'),
    slashStep: number('slashStep'),
    maxSlashes: number('maxSlashes'),
    maxColumns: number('maxColumns'),
  }).words;
}
