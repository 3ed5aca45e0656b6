import {
  byteSize,
  caseTensor,
  composedShader,
  cut,
  defineOp,
  DTypeError,
  ExecutionError,
  formatShape,
  groupsFor,
  ShapeError,
  sizeOf,
  uniform,
  type HostTensor,
} from '@filigree/core-tensor';
import type * as FastCheck from 'fast-check';
import { bf16Above } from './bf16-above.js';
import shader from '@filigree/wgsl/sparse-attention/page-bounds.wgsl';

/**
 * Brings the bounds of the keys beside a cache up to date: the least and the greatest value of every channel over a page of entries.
 *
 * keyMin, keyMax [pages,Hk,P/page,D] (mutated), k [pages,Hk,P,D], all f32, all f16, or bf16 of f32   slots i32 [n] = page of the cache · P + entry
 *
 * slots are entries just written, those of one page of bounds behind each other and ascending. The first entry of a page starts its bounds afresh, every
 * other one widens them; so bounds made entry by entry equal those made at once. Bounds in bf16 are rounded outwards,
 * by less than 2⁻⁷ of themselves; others are exact. Moves 2·n·Hk·D elements in.
 *
 * Tang et al., "Quest: Query-Aware Sparsity for Efficient Long-Context LLM Inference", arXiv:2406.10774.
 */
export const pageBoundsOp = /* @__PURE__ */ defineOp({
  name: 'sparse-attention/page-bounds',
  inputs: ['keyMin', 'keyMax', 'k', 'slots'],
  outputs: [],
  attributes: {},
  mutates: ['keyMin', 'keyMax'],
  infer({ keyMin, keyMax, k, slots }) {
    if (k.dtype !== 'f32' && k.dtype !== 'f16') throw new DTypeError(`page-bounds: k is ${k.dtype}, it takes f32 or f16`);
    if (slots.dtype !== 'i32' || slots.shape.length !== 1) throw new DTypeError('page-bounds: slots must be i32 [n]');
    for (const [name, bounds] of Object.entries({ keyMin, keyMax })) {
      const allowed = bounds.dtype === k.dtype || (bounds.dtype === 'bf16' && k.dtype === 'f32');
      if (!allowed || bounds.dtype !== keyMin.dtype)
        throw new DTypeError(`page-bounds: ${name} is ${bounds.dtype}, keyMin ${keyMin.dtype}, k ${k.dtype}`);
      const fits =
        k.shape.length === 4 &&
        bounds.shape.length === 4 &&
        [0, 1, 3].every((axis) => bounds.shape[axis] === k.shape[axis]) &&
        bounds.shape[2] > 0 &&
        k.shape[2] % bounds.shape[2] === 0 &&
        keyMin.shape[2] === bounds.shape[2];
      if (!fits)
        throw new ShapeError(
          `page-bounds: ${name} ${formatShape(bounds.shape)} does not fit k ${formatShape(k.shape)}: [pages, Hk, P / page, D]`,
        );
    }
    if (keyMin.dtype !== 'f32' && k.shape[3] % 2 !== 0)
      throw new ShapeError(`page-bounds: bounds in ${keyMin.dtype} need an even head dim, got ${k.shape[3]}`);
    return {};
  },
  reference({ keyMin, keyMax, k, slots }) {
    const [pages, heads, pageSize, dim] = k.shape;
    const entries = pageSize / keyMin.shape[2];
    for (const slot of slots.data)
      if (slot < 0 || slot >= pages * pageSize)
        throw new ExecutionError(`page-bounds: slot ${slot} is outside of the ${pages * pageSize} entries`);
    for (const slot of slots.data) {
      const [page, entry] = [Math.floor(slot / pageSize), slot % pageSize];
      for (let head = 0; head < heads; head++) {
        const from = ((page * heads + head) * pageSize + entry) * dim;
        const to = ((page * heads + head) * keyMin.shape[2] + Math.floor(entry / entries)) * dim;
        for (let channel = 0; channel < dim; channel++) {
          const value = k.data[from + channel];
          const [low, high] = keyMin.dtype === 'bf16' ? [-bf16Above(-value), bf16Above(value)] : [value, value];
          const starts = entry % entries === 0;
          if (starts || low < keyMin.data[to + channel]) keyMin.data[to + channel] = low;
          if (starts || high > keyMax.data[to + channel]) keyMax.data[to + channel] = high;
        }
      }
    }
  },
  native: 'sparse_attention_page_bounds',
  tolerance: { default: { absolute: 0, relative: 0 } },
  webgpu: {
    shader(_, { k, keyMin }) {
      const [half, rounded] = [String(k?.dtype === 'f16'), String(keyMin?.dtype === 'bf16')];
      return composedShader(`sparse-attention/page-bounds ${half} ${rounded}`, () =>
        shader.replaceAll('HALF', half).replaceAll('ROUNDED', rounded),
      );
    },
    plan({ keyMin, k, slots }, _, limits) {
      if (!keyMin || !k || !slots || sizeOf(slots.shape) === 0 || sizeOf(k.shape) === 0) return [];
      const [pages, heads, pageSize, dim] = k.shape;
      const [perPage, size] = [keyMin.shape[2], byteSize(keyMin.dtype)];
      const entries = pageSize / perPage;
      const bytes = { keyMin: dim * size, keyMax: dim * size, k: entries * dim * byteSize(k.dtype) };
      return cut(pages * heads * perPage, bytes, limits).map((piece) => ({
        workgroups: groupsFor((slots.shape[0] * heads * dim * size) / 4),
        uniforms: [
          ...[slots.shape[0], heads, (dim * size) / 4, entries, perPage, pageSize, pages * pageSize],
          ...[piece.start, piece.count],
        ].map(uniform.u32),
        ranges: piece.ranges,
      }));
    },
  },
  cases: (fc) =>
    fc
      .record({
        pages: fc.integer({ min: 1, max: 4 }),
        heads: fc.integer({ min: 1, max: 3 }),
        entries: fc.constantFrom(1, 4, 16),
        perPage: fc.integer({ min: 1, max: 3 }),
        dim: fc.constantFrom(2, 8, 34),
        dtype: fc.constantFrom('f32' as const, 'f16' as const),
        rounded: fc.boolean(),
      })
      .chain(({ pages, heads, entries, perPage, dim, dtype, rounded }) => {
        const bounds = caseTensor(fc, [pages, heads, perPage, dim], { dtype: rounded && dtype === 'f32' ? 'bf16' : dtype });
        return fc.record({
          inputs: fc.record({
            keyMin: bounds,
            keyMax: bounds,
            k: caseTensor(fc, [pages, heads, entries * perPage, dim], { dtype }),
            slots: runs(fc, pages, entries * perPage),
          }),
          attributes: fc.constant({}),
        });
      }),
});

/** Slots of a run of entries in some of the pages, ascending within each. */
function runs(fc: typeof FastCheck, pages: number, pageSize: number): FastCheck.Arbitrary<HostTensor> {
  const run = fc.tuple(fc.nat(pageSize), fc.nat(pageSize)).map((ends) => [Math.min(...ends), Math.max(...ends)]);
  const order = fc.shuffledSubarray([...Array(pages).keys()], { minLength: 0, maxLength: pages });
  return fc.tuple(order, fc.array(run, { minLength: pages, maxLength: pages })).map(([pageIds, ends]) => {
    const slots = pageIds.flatMap((page) => {
      const [from, to] = ends[page];
      return Array.from({ length: to - from }, (_, index) => page * pageSize + from + index);
    });
    return { shape: [slots.length], dtype: 'i32', data: Int32Array.from(slots) };
  });
}
