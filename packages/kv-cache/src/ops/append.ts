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
  itemsPerBinding,
  ShapeError,
  uniform,
  wordMultiple,
  type HostTensor,
  type TensorMeta,
  type WebGpuLimits,
} from '@filigree/core-tensor';
import appendShader from '@filigree/wgsl/kv-cache/append.wgsl';

/** Windows of a binding's size over the elements of pages. */
function windows(pages: TensorMeta, limits: WebGpuLimits): { start: number; count: number }[] {
  const total = pages.shape.reduce((product, dimension) => product * dimension, 1);
  const most = itemsPerBinding(limits, byteSize(pages.dtype), wordMultiple);
  const found = [];
  for (let start = 0; start === 0 || start < total; start += most) found.push({ start, count: Math.min(most, total - start) });
  return found;
}

/**
 * Writes new keys and values into their slots of the pages, in place; no other entry is touched or moved.
 *
 * keyPages [pages,Hk,P,D], valuePages [pages,Hk,P,Dv] f32 or f16 (mutated)   k [n,Hk,D], v [n,Hk,Dv] f32   slots i32 [n]
 *
 * Slot = page · P + entry within the page. f16 rounds to nearest even. Moves 4·n·Hk·(D + Dv) bytes in.
 */
export const appendOp = /* @__PURE__ */ defineOp({
  name: 'kv-cache/append',
  inputs: ['keyPages', 'valuePages', 'k', 'v', 'slots'],
  outputs: [],
  attributes: {},
  mutates: ['keyPages', 'valuePages'],
  infer({ keyPages, valuePages, k, v, slots }) {
    for (const [name, pages, rows] of [['k', keyPages, k] as const, ['v', valuePages, v] as const]) {
      if (pages.dtype !== 'f32' && pages.dtype !== 'f16')
        throw new DTypeError(`append: pages of ${name} are ${pages.dtype}, they take f32 or f16`);
      if (rows.dtype !== 'f32') throw new DTypeError(`append: ${name} is ${rows.dtype}, it takes f32`);
      const fits =
        pages.shape.length === 4 &&
        rows.shape.length === 3 &&
        rows.shape[0] === slots.shape[0] &&
        rows.shape[1] === pages.shape[1] &&
        rows.shape[2] === pages.shape[3];
      if (!fits) {
        throw new ShapeError(
          `append: ${name} ${formatShape(rows.shape)} does not fit pages ${formatShape(pages.shape)} and slots ${formatShape(slots.shape)}`,
        );
      }
      if (pages.dtype === 'f16' && pages.shape[3] % 2 !== 0)
        throw new ShapeError(`append: f16 pages need an even head dim, got ${pages.shape[3]}`);
    }
    if (slots.dtype !== 'i32' || slots.shape.length !== 1) throw new DTypeError('append: slots must be i32 [n]');
    return {};
  },
  reference({ keyPages, valuePages, k, v, slots }) {
    const [pages, heads, pageSize] = keyPages.shape;
    for (let index = 0; index < slots.data.length; index++) {
      const slot = slots.data[index];
      if (slot < 0 || slot >= pages * pageSize)
        throw new ExecutionError(`append: slot ${slot} is outside of the ${pages * pageSize} entries`);
    }
    for (const [target, rows] of [[keyPages, k] as const, [valuePages, v] as const]) {
      const dim = rows.shape[2];
      for (let index = 0; index < slots.data.length; index++) {
        const [page, entry] = [Math.floor(slots.data[index] / pageSize), slots.data[index] % pageSize];
        for (let head = 0; head < heads; head++) {
          const at = ((page * heads + head) * pageSize + entry) * dim;
          for (let channel = 0; channel < dim; channel++)
            target.data[at + channel] = rows.data[(index * heads + head) * dim + channel];
        }
      }
    }
  },
  native: 'kv_cache_append',
  webgpu: {
    shader(_, { keyPages }) {
      const half = String(keyPages?.dtype === 'f16');
      return composedShader(`kv-cache/append ${half}`, () => appendShader.replaceAll('HALF', half));
    },
    plan({ keyPages, valuePages, k, v }, _, limits) {
      if (!keyPages || !valuePages || !k || !v) return [];
      const bytes = byteSize(keyPages.dtype);
      const [pages, heads, pageSize] = keyPages.shape;
      const [keys, values] = [windows(keyPages, limits), windows(valuePages, limits)];
      const words = (rows: number, dim: number): number => (rows * heads * dim * bytes) / 4;
      return cut(k.shape[0], { k: 4 * heads * k.shape[2], v: 4 * heads * v.shape[2], slots: 4 }, limits).flatMap((piece) => {
        const [keyWords, valueWords] = [words(piece.count, k.shape[2]), words(piece.count, v.shape[2])];
        // Key and value windows go in pairs; the shorter list repeats its last one, which writes the same once more.
        return Array.from({ length: Math.max(keys.length, values.length) }, (_window, index) => {
          const key = keys[Math.min(index, keys.length - 1)];
          const value = values[Math.min(index, values.length - 1)];
          return {
            workgroups: groupsFor(keyWords + valueWords),
            uniforms: [
              ...[keyWords, keyWords + valueWords, heads, pageSize, k.shape[2], v.shape[2], pages * pageSize],
              ...[key.start, key.count, value.start, value.count],
            ].map(uniform.u32),
            ranges: {
              ...piece.ranges,
              keyPages: { byteOffset: key.start * bytes, byteLength: key.count * bytes },
              valuePages: { byteOffset: value.start * bytes, byteLength: value.count * bytes },
            },
          };
        });
      });
    },
  },
  cases: (fc) =>
    fc
      .record({
        pages: fc.integer({ min: 1, max: 4 }),
        heads: fc.integer({ min: 1, max: 3 }),
        pageSize: fc.constantFrom(1, 4, 16),
        dim: fc.constantFrom(2, 8, 34),
        valueDim: fc.constantFrom(2, 6, 64),
        rows: fc.nat(9),
        dtype: fc.constantFrom('f32' as const, 'f16' as const),
      })
      .chain(({ pages, heads, pageSize, dim, valueDim, rows, dtype }) => {
        const n = Math.min(rows, pages * pageSize);
        return fc.record({
          inputs: fc.record({
            keyPages: caseTensor(fc, [pages, heads, pageSize, dim], { dtype }),
            valuePages: caseTensor(fc, [pages, heads, pageSize, valueDim], { dtype }),
            k: caseTensor(fc, [n, heads, dim]),
            v: caseTensor(fc, [n, heads, valueDim]),
            slots: fc
              .shuffledSubarray([...Array(pages * pageSize).keys()], { minLength: n, maxLength: n })
              .map((ids): HostTensor => ({ shape: [n], dtype: 'i32', data: Int32Array.from(ids) })),
          }),
          attributes: fc.constant({}),
        });
      }),
});
