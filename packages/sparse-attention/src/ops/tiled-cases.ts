import { Random, type HostTensor } from '@filigree/core-tensor';
import type * as FastCheck from 'fast-check';
import type { PagedCase } from './cases.js';
import { precisions, queryLayouts } from './check.js';

/** Attributes of a call whose keys are decided upon by tiles. */
export interface TiledAttributes {
  readonly scale: number;
  readonly precision: (typeof precisions)[number];
  readonly pvSkip: number;
  readonly scoreN: number;
  readonly scoreM: number;
  readonly scoreSinks: number;
  readonly scoreRecent: number;
}

/**
 * Calls for `pvSkip` and N:M softmax. Scores are multiples of 1/16, exact on every path, each of them once or all of them equal, and no threshold
 * lies near one: what is left out is the same everywhere. Keys fit into the smallest binding of a test.
 */
export function tiledCase(
  fc: typeof FastCheck,
): FastCheck.Arbitrary<
  Omit<PagedCase, 'inputs'> & { inputs: Record<'q' | 'k' | 'v', HostTensor> & { table?: HostTensor | undefined } }
> {
  return fc
    .record({
      kvHeads: fc.constantFrom(1, 2),
      group: fc.constantFrom(1, 3),
      lengthQ: fc.constantFrom(1, 5, 17, 33),
      past: fc.nat(110),
      paged: fc.boolean(),
      dtype: fc.constantFrom('f32' as const, 'f16' as const),
      queryLayout: fc.constantFrom(...queryLayouts),
      seed: fc.nat(0x7fffffff),
    })
    .map(({ kvHeads, group, lengthQ, past, paged, dtype, queryLayout, seed }) => {
      const random = new Random(seed);
      const [heads, lengthK, pageSize, dim] = [kvHeads * group, lengthQ + past, 16, 2];
      const perBatch = Math.ceil(lengthK / pageSize);
      const [pages, entries] = paged ? [perBatch + 1, pageSize] : [1, lengthK];
      const rows = pages * kvHeads * entries;
      const ranks = shuffled(random, rows);
      const rowsOfQ = heads * lengthQ;
      const factors = Array.from({ length: rowsOfQ }, () => [0, 1 / 8, -1 / 8, 1 / 4, -1 / 4][random.nextInt(5)]);
      const numbers = (items: readonly number[], shape: readonly number[], type: 'f32' | 'f16' = 'f32'): HostTensor => ({
        shape,
        dtype: type,
        data: Float32Array.from(items),
      });
      const shapeQ = queryLayout === 'bhld' ? [1, heads, lengthQ, dim] : [1, lengthQ, heads, dim];
      const order = shuffled(random, pages).slice(0, perBatch);
      return {
        ...{ batch: 1, heads, kvHeads, lengthQ, lengthK, dim, queryLayout },
        inputs: {
          q: numbers(
            factors.flatMap((factor) => [16 * factor, factor]),
            shapeQ,
          ),
          k: numbers(
            ranks.flatMap((rank) => [rank >> 4, rank & 15]),
            [pages, kvHeads, entries, dim],
            dtype,
          ),
          v: numbers(
            ranks.flatMap(() => [random.nextInt(9) / 2 - 2, random.nextInt(9) / 2 - 2]),
            [pages, kvHeads, entries, dim],
            dtype,
          ),
          table: paged ? { shape: [1, perBatch], dtype: 'i32' as const, data: Int32Array.from(order) } : undefined,
        },
      };
    });
}

export function tiledAttributes(fc: typeof FastCheck): FastCheck.Arbitrary<TiledAttributes> {
  return fc
    .record({
      scale: fc.constant(0.5),
      precision: fc.constantFrom(...precisions),
      pvSkip: fc.constantFrom(0, 1.03, 8.03),
      scoreM: fc.constantFrom(0, 4, 8),
      kept: fc.nat(7),
      scoreSinks: fc.constantFrom(0, 4, 5),
      scoreRecent: fc.constantFrom(0, 1, 30),
    })
    .map(({ kept, ...rest }) => ({ ...rest, scoreN: rest.scoreM === 0 ? 0 : 1 + (kept % rest.scoreM) }));
}

function shuffled(random: Random, count: number): number[] {
  const items = Array.from({ length: count }, (_, index) => index);
  for (let index = count - 1; index > 0; index--) {
    const other = random.nextInt(index + 1);
    [items[index], items[other]] = [items[other], items[index]];
  }
  return items;
}
