import type { HostTensor } from '@filigree/core-tensor';
import type * as FastCheck from 'fast-check';
import { selectionCase, type SelectionCase } from './cases.js';

/**
 * Cases whose rows quantise the same in every precision. Rows come in pairs o + v, o − v, so that means over an even number of rows are o exactly; the
 * elements of v are odd multiples of a power of two, so that no quotient by the largest one is near a tie of 7 or 127 levels.
 */
export function centredCase(fc: typeof FastCheck): FastCheck.Arbitrary<SelectionCase> {
  return selectionCase(fc, true).map((generated) => {
    const { inputs, batch, lengthQ, lengthK, queryLayout } = generated;
    const even = (most: number): FastCheck.Arbitrary<number> => fc.nat(Math.floor(most / 2)).map((half) => 2 * half);
    const lengths = fc
      .array(fc.tuple(even(lengthQ), even(lengthK)), { minLength: batch, maxLength: batch })
      .map((rows): HostTensor => ({ shape: [batch, 2], dtype: 'i32', data: Int32Array.from(rows.flat()) }));
    return {
      ...generated,
      lengthK: lengthK - (lengthK % 2),
      inputs: {
        ...inputs,
        q: inputs.q.map((tensor) => centred(tensor, queryLayout === 'bhld' ? 2 : 1)),
        k: inputs.k.map((tensor) => centred(tensor, 2)),
        lengths: fc.option(lengths, { nil: undefined }),
      },
    };
  });
}

/** Pairs the rows along `axis`; the last of an odd number is o. */
function centred(tensor: HostTensor, axis: number): HostTensor {
  const { shape, data } = tensor;
  let largest = 0;
  for (let at = 0; at < data.length; at++) largest = Math.max(largest, Math.abs(data[at]));
  const step = largest === 0 ? 1 : 2 ** (Math.ceil(Math.log2(largest)) - 5);
  const inner = shape.slice(axis + 1).reduce((product, size) => product * size, 1);
  for (let at = 0; at < data.length; at++) {
    const row = Math.floor(at / inner) % shape[axis];
    const offset = (((at % inner) % 5) - 2) * step;
    if (row % 2 === 1) data[at] = 2 * offset - data[at - inner];
    else if (row === shape[axis] - 1) data[at] = offset;
    else data[at] = offset + (2 * Math.floor(data[at] / step / 2) + 1) * step;
  }
  return tensor;
}
