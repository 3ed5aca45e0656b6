import {
  caseTensor,
  defineOp,
  DTypeError,
  ExecutionError,
  formatShape,
  ShapeError,
  type HostTensor,
} from '@filigree/core-tensor';
import appendShader from '@filigree/wgsl/kv-cache/append.wgsl';

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
    shader: (_, { keyPages }) => appendShader.replaceAll('HALF', keyPages?.dtype === 'f16' ? 'true' : 'false'),
    plan({ keyPages, k, v }) {
      if (!keyPages || !k || !v) return [];
      const half = keyPages.dtype === 'f16' ? 2 : 1;
      const words = (rows: { shape: readonly number[] }): number => rows.shape[0] * rows.shape[1] * (rows.shape[2] / half);
      const u32 = (value: number): { readonly type: 'u32'; readonly value: number } => ({ type: 'u32', value });
      return [
        {
          workgroups: [Math.ceil((words(k) + words(v)) / 64)],
          uniforms: [words(k), words(k) + words(v), k.shape[1], keyPages.shape[2], k.shape[2], v.shape[2]].map(u32),
        },
      ];
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
