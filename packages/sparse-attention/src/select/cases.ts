import type { HostTensor } from '@filigree/core-tensor';
import type * as FastCheck from 'fast-check';
import { pagedCase, type PagedCase } from '../ops/cases.js';
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

/**
 * Queries, pages of keys, ragged lengths and head maps: what the selection kernels take. `small`: for kernels that bind q and k whole, in the few
 * kilobytes that a binding of the tests may have.
 */
export function selectionCase(fc: typeof FastCheck, small = false): FastCheck.Arbitrary<SelectionCase> {
  const sizes = { kvHeads: [1, 2], group: [1, 2, 3], lengthQ: 16, past: 40 };
  return (small ? pagedCase(fc, sizes).map(shrunk) : pagedCase(fc)).map(
    ({ inputs: { q, k, table }, batch, heads, kvHeads, lengthQ, lengthK, dim, queryLayout }) => {
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
    },
  );
}

/** Elements of q and of k in a small case. */
const fewElements = 900;

/** The case with so many channels as q and k leave room for. */
function shrunk(generated: PagedCase): PagedCase {
  const { batch, heads, kvHeads, lengthQ, lengthK, dim, inputs } = generated;
  // Pages reach to the next multiple of 64, one of them is spare, and codes and corrections take some words a key.
  const keys = (Math.ceil(lengthK / 64) * batch + 1) * 64 * kvHeads + heads * lengthK;
  const rows = Math.max(keys, batch * heads * lengthQ);
  const most = Math.max(2, 2 * Math.floor(fewElements / rows / 2));
  if (dim <= most) return generated;
  const narrow = (tensor: HostTensor): HostTensor => ({
    ...tensor,
    shape: [...tensor.shape.slice(0, 3), most],
    data: tensor.data.filter((_, at) => at % dim < most),
  });
  return { ...generated, dim: most, inputs: { ...inputs, q: inputs.q.map(narrow), k: inputs.k.map(narrow) } };
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
