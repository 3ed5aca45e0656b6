import type { HostTensor } from '@filigree/core-tensor';
import type * as FastCheck from 'fast-check';
import { pagedCase } from '../ops/cases.js';
import type { QueryLayout } from '../ops/check.js';

export interface SelectionCase {
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
    readonly table: FastCheck.Arbitrary<HostTensor | undefined>;
    readonly lengths: FastCheck.Arbitrary<HostTensor | undefined>;
    readonly kvMap: FastCheck.Arbitrary<HostTensor | undefined>;
  };
}

/** Queries, pages of keys, ragged lengths and head maps: what the selection kernels take. */
export function selectionCase(fc: typeof FastCheck): FastCheck.Arbitrary<SelectionCase> {
  return pagedCase(fc).map(({ inputs: { q, k, table }, batch, heads, kvHeads, lengthQ, lengthK, dim, queryLayout }) => {
    const lengths = fc
      .array(fc.tuple(fc.nat(lengthQ), fc.nat(lengthK)), { minLength: batch, maxLength: batch })
      .map((rows): HostTensor => ({ shape: [batch, 2], dtype: 'i32', data: Int32Array.from(rows.flat()) }));
    const kvMap = fc
      .array(fc.nat(kvHeads - 1), { minLength: heads, maxLength: heads })
      .map((map): HostTensor => ({ shape: [heads], dtype: 'i32', data: Int32Array.from(map) }));
    return {
      batch,
      heads,
      kvHeads,
      lengthQ,
      lengthK,
      dim,
      queryLayout,
      inputs: {
        q,
        k,
        table,
        lengths: fc.option(lengths, { nil: undefined }),
        kvMap: fc.option(kvMap, { nil: undefined }),
      },
    };
  });
}

/**
 * Rounds to whole numbers of at most 8 times a power of two, chosen by the tensor: sums of their products are exact in f32, so that comparisons come out
 * the same whatever the order of summation.
 */
export function coarse<T extends HostTensor>(tensor: T): T {
  let most = 0;
  for (let index = 0; index < tensor.data.length; index++) most = Math.max(most, Math.abs(tensor.data[index]));
  const step = most === 0 ? 1 : 2 ** (Math.ceil(Math.log2(most)) - 3);
  for (let index = 0; index < tensor.data.length; index++) tensor.data[index] = Math.round(tensor.data[index] / step) * step;
  return tensor;
}
