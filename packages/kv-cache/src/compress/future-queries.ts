import { add, fromArray, reduce, reshape, slice, type Tensor } from '@filigree/core-tensor';
import type { CompressContext } from './compressor.js';

/** Queries of the prompt from position `sinks` on, turned back to position 0: [n, Hq, D]. */
export function unrotated({ backend, q, length, rotate }: CompressContext, sinks: number): Tensor {
  const [, seen, heads, dim] = q.shape;
  const skipped = Math.max(0, sinks - (length - seen));
  const count = seen - skipped;
  const rows = reshape(slice(q, [0, skipped, 0, 0], [1, count, heads, dim]), [count, heads, dim]);
  const back = Int32Array.from({ length: count }, (_, index) => -(length - count + index));
  return rotate(rows, fromArray(backend, back, [count], 'i32'));
}

/** Rotations of one product. */
const rotations = 64;

/** The mean of the rotations to the next `future` positions, [D, D]: row i is where channel i goes. It shortens what it turns. */
export function meanRotation({ backend, k, length, rotate }: CompressContext, future: number): Tensor {
  const dim = k.shape[2];
  let sum: Tensor | undefined;
  for (let start = 0; start < future; start += rotations) {
    const count = Math.min(rotations, future - start);
    const units = Float32Array.from({ length: count * dim * dim }, (_, index) =>
      Math.floor(index / dim) % dim === index % dim ? 1 / future : 0,
    );
    const positions = Int32Array.from({ length: count }, (_, index) => length + start + index);
    const turned = rotate(fromArray(backend, units, [count, dim, dim]), fromArray(backend, positions, [count], 'i32'));
    const part = reduce(turned, 'sum', { axis: 0 });
    sum = sum ? add(sum, part) : part;
  }
  return sum ?? fromArray(backend, new Float32Array(dim * dim), [dim, dim]);
}
