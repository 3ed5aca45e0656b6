import { caseTensor, Random, type HostTensor } from '@filigree/core-tensor';
import type * as FastCheck from 'fast-check';
import { queryLayouts, type QueryLayout } from './check.js';

/** Words that the smallest binding of a test holds. */
export const smallestBinding = 960;

export interface PagedCase {
  readonly batch: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly lengthQ: number;
  readonly lengthK: number;
  readonly dim: number;
  readonly queryLayout: QueryLayout;
  readonly inputs: {
    readonly q: FastCheck.Arbitrary<HostTensor>;
    readonly k: FastCheck.Arbitrary<HostTensor>;
    readonly v: FastCheck.Arbitrary<HostTensor>;
    readonly table: FastCheck.Arbitrary<HostTensor | undefined>;
  };
}

/** What {@link pagedCase} draws from. */
const usual = {
  kvHeads: [1, 2, 3],
  group: [1, 2, 3, 5],
  lengthQ: 40,
  past: 90,
};

/** Queries, pages of keys and values, and a page table: odd sizes, shared heads, both layouts, f32 and f16. */
export function pagedCase(
  fc: typeof FastCheck,
  { kvHeads, group, lengthQ, past }: typeof usual = usual,
): FastCheck.Arbitrary<PagedCase> {
  return fc
    .record({
      batch: fc.constantFrom(0, 1, 1, 2),
      kvHeads: fc.constantFrom(...kvHeads),
      group: fc.constantFrom(...group),
      lengthQ: fc.oneof(fc.constant(1), fc.nat(lengthQ)),
      past: fc.nat(past),
      dim: fc.constantFrom(1, 8, 16, 33, 64),
      valueDim: fc.constantFrom(1, 8, 16, 35, 64),
      pageSize: fc.constantFrom(4, 16, 64),
      paged: fc.boolean(),
      dtype: fc.constantFrom('f32' as const, 'f16' as const),
      queryLayout: fc.constantFrom(...queryLayouts),
    })
    .map(({ batch, kvHeads, group, lengthQ, past, dim, valueDim, pageSize, paged, dtype, queryLayout }) => {
      const heads = kvHeads * group;
      const lengthK = lengthQ + past;
      const perBatch = Math.max(1, Math.ceil(lengthK / pageSize));
      const pages = paged ? batch * perBatch + 1 : batch;
      const entries = paged ? pageSize : Math.max(1, lengthK);
      const size = queryLayout === 'bhld' ? [batch, heads, lengthQ, dim] : [batch, lengthQ, heads, dim];
      const evenDim = dtype === 'f16' && dim % 2 === 1 ? dim + 1 : dim;
      const evenValue = dtype === 'f16' && valueDim % 2 === 1 ? valueDim + 1 : valueDim;
      return {
        batch,
        heads,
        kvHeads,
        lengthQ,
        lengthK: paged ? lengthK : Math.min(lengthK, entries),
        dim: evenDim,
        queryLayout,
        inputs: {
          q: caseTensor(fc, [...size.slice(0, 3), evenDim]).map(bounded),
          k: caseTensor(fc, [pages, kvHeads, entries, evenDim], { dtype }).map(bounded),
          v: caseTensor(fc, [pages, kvHeads, entries, evenValue], { dtype }).map(bounded),
          table: paged
            ? fc
                .shuffledSubarray([...Array(pages).keys()], { minLength: batch * perBatch, maxLength: batch * perBatch })
                .map((ids) => ({
                  shape: [batch, perBatch],
                  dtype: 'i32' as const,
                  data: Int32Array.from(ids),
                }))
            : fc.constant(undefined),
        },
      };
    });
}

/** Scores of some hundred lose digits of the exponent on every path; values stay within ±8. */
function bounded<T extends HostTensor>(tensor: T): T {
  for (let index = 0; index < tensor.data.length; index++) tensor.data[index] = Math.max(-8, Math.min(8, tensor.data[index]));
  return tensor;
}

/** Maps of query heads to key-value heads, or none. */
export function kvMapOfCase(
  fc: typeof FastCheck,
  { heads, kvHeads }: { readonly heads: number; readonly kvHeads: number },
): FastCheck.Arbitrary<HostTensor | undefined> {
  return fc.option(caseTensor(fc, [heads], { dtype: 'i32', low: 0, high: kvHeads - 1 }), { nil: undefined });
}

/** Biases out of some numbers for the keys of a case, or none. */
export function biasOfCase(
  fc: typeof FastCheck,
  numbers: readonly number[],
): FastCheck.Arbitrary<(k: HostTensor) => HostTensor | undefined> {
  return fc.option(fc.nat(0x7fffffff), { nil: undefined }).map((seed) => ({ shape }) => {
    if (seed === undefined) return undefined;
    const random = new Random(seed);
    const [pages, heads, entries] = shape;
    const data = Float32Array.from({ length: pages * heads * entries }, () => numbers[random.nextInt(numbers.length)]);
    // Whole pages that nobody sees.
    for (let page = 0; page < pages * heads; page++)
      if (random.nextFloat() < 0.1) data.fill(-Infinity, page * entries, (page + 1) * entries);
    return { shape: [pages, heads, entries], dtype: 'f32', data };
  });
}
