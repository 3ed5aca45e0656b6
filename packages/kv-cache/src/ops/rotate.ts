import { caseTensor, defineOp, DTypeError, formatShape, OptionError, ShapeError } from '@filigree/core-tensor';
import { rotateKernel } from './webgpu-rotate.js';

/**
 * y = R x for every row, or Rᵀ x, with R = H · diag(s) / √D: seeded signs and a Walsh–Hadamard matrix. R is orthogonal, and whatever direction x has but
 * those of a few columns of R, the numbers of y are about normally distributed.
 *
 * x […, D] f32, D a power of two up to 1,024   y as x. Sums go by doubling distances, so all backends have the same bits. D·log2 D additions a row.
 */
export const rotateOp = /* @__PURE__ */ defineOp({
  name: 'kv-cache/rotate',
  inputs: ['x'],
  outputs: ['y'],
  attributes: { seed: { type: 'number' }, inverse: { type: 'boolean', default: false } },
  infer({ x }, { seed }) {
    if (x.dtype !== 'f32') throw new DTypeError(`rotate: x is ${x.dtype}, it takes f32`);
    const dim = x.shape.at(-1) ?? 0;
    if (dim > 1024 || !Number.isInteger(Math.log2(dim)))
      throw new ShapeError(`rotate: x is ${formatShape(x.shape)}, its last axis must be a power of two up to 1024`);
    if (!Number.isInteger(seed) || seed < 0 || seed > 0xffffffff)
      throw new OptionError(`rotate: seed is ${seed}, it must be a whole number of 32 bits`);
    return { y: { shape: x.shape, dtype: 'f32' } };
  },
  reference({ x, y }, { seed, inverse }) {
    const dim = x.shape[x.shape.length - 1];
    const factor = Math.fround(1 / Math.sqrt(dim));
    const signs = Array.from({ length: dim }, (_, channel) => signOf(seed, channel));
    for (let at = 0; at < x.data.length; at += dim) {
      const row = signs.map((sign, channel) => (inverse ? x.data[at + channel] : sign * x.data[at + channel]));
      transform(row);
      for (let channel = 0; channel < dim; channel++)
        y.data[at + channel] = Math.fround(row[channel] * factor) * (inverse ? signs[channel] : 1);
    }
  },
  native: 'kv_cache_rotate',
  webgpu: rotateKernel,
  tolerance: { y: { absolute: 0, relative: 0 } },
  cases: (fc) =>
    fc
      .record({
        rows: fc.array(fc.nat(3), { maxLength: 2 }),
        dim: fc.constantFrom(1, 2, 4, 8, 16, 32, 64, 128, 256),
        seed: fc.nat(0xffffffff),
        inverse: fc.boolean(),
      })
      .chain(({ rows, dim, seed, inverse }) =>
        fc.record({ inputs: fc.record({ x: caseTensor(fc, [...rows, dim]) }), attributes: fc.constant({ seed, inverse }) }),
      ),
});

/** In place, unscaled. */
function transform(row: number[]): void {
  for (let distance = 1; distance < row.length; distance *= 2) {
    for (let index = 0; index < row.length; index++) {
      if (index & distance) continue;
      const [a, b] = [row[index], row[index + distance]];
      row[index] = Math.fround(a + b);
      row[index + distance] = Math.fround(a - b);
    }
  }
}

/** A sign for every channel, from a mix of 32 bits. */
function signOf(seed: number, channel: number): 1 | -1 {
  let bits = seed ^ Math.imul(channel, 0x9e3779b9);
  bits = Math.imul(bits ^ (bits >>> 16), 0x7feb352d);
  bits = Math.imul(bits ^ (bits >>> 15), 0x846ca68b);
  return (bits ^ (bits >>> 16)) & 1 ? -1 : 1;
}
