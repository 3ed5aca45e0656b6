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
import shader from '@filigree/wgsl/sparse-attention/append-labels.wgsl';

/**
 * Copies the chosen channels of keys that were just written into the label pages beside them.
 *
 * labels [pages,Hk,P,r] (mutated), k [pages,Hk,P,D], both f32 or both f16   channels i32 [Hk,r]   slots i32 [n] = page · P + entry
 *
 * labels[slot, h, c] = k[slot, h, channels[h, c]]. r is even in f16. Moves n·Hk·r elements.
 *
 * Yang et al., "Post-Training Sparse Attention with Double Sparsity", arXiv:2408.07092.
 */
export const appendLabelsOp = /* @__PURE__ */ defineOp({
  name: 'sparse-attention/append-labels',
  inputs: ['labels', 'k', 'channels', 'slots'],
  outputs: [],
  attributes: {},
  mutates: ['labels'],
  infer({ labels, k, channels, slots }) {
    if (k.dtype !== 'f32' && k.dtype !== 'f16') throw new DTypeError(`append-labels: k is ${k.dtype}, it takes f32 or f16`);
    if (labels.dtype !== k.dtype) throw new DTypeError(`append-labels: labels are ${labels.dtype}, k ${k.dtype}`);
    if (slots.dtype !== 'i32' || slots.shape.length !== 1) throw new DTypeError('append-labels: slots must be i32 [n]');
    const fits =
      k.shape.length === 4 && labels.shape.length === 4 && [0, 1, 2].every((axis) => labels.shape[axis] === k.shape[axis]);
    if (!fits) throw new ShapeError(`append-labels: labels ${formatShape(labels.shape)} do not fit k ${formatShape(k.shape)}`);
    if (channels.dtype !== 'i32' || channels.shape.join() !== `${k.shape[1]},${labels.shape[3]}`)
      throw new ShapeError(
        `append-labels: channels is ${channels.dtype} ${formatShape(channels.shape)}, it takes i32 [${k.shape[1]}, ${labels.shape[3]}]`,
      );
    if (k.dtype === 'f16' && labels.shape[3] % 2 !== 0)
      throw new ShapeError(`append-labels: f16 labels need an even number of channels, got ${labels.shape[3]}`);
    return {};
  },
  reference({ labels, k, channels, slots }) {
    const [pages, heads, pageSize, dim] = k.shape;
    const kept = labels.shape[3];
    for (const slot of slots.data)
      if (slot < 0 || slot >= pages * pageSize)
        throw new ExecutionError(`append-labels: slot ${slot} is outside of the ${pages * pageSize} entries`);
    for (const channel of channels.data)
      if (channel < 0 || channel >= dim) throw new ExecutionError(`append-labels: channel ${channel} is outside of ${dim}`);
    for (const slot of slots.data) {
      for (let head = 0; head < heads; head++) {
        const row = (Math.floor(slot / pageSize) * heads + head) * pageSize + (slot % pageSize);
        for (let index = 0; index < kept; index++)
          labels.data[row * kept + index] = k.data[row * dim + channels.data[head * kept + index]];
      }
    }
  },
  native: 'sparse_attention_append_labels',
  webgpu: {
    shader(_, { k }) {
      const half = String(k?.dtype === 'f16');
      return composedShader(`sparse-attention/append-labels ${half}`, () => shader.replaceAll('HALF', half));
    },
    plan({ labels, k, slots }, _, limits) {
      if (!labels || !k || !slots || sizeOf(slots.shape) === 0 || sizeOf(labels.shape) === 0) return [];
      const [pages, heads, pageSize, dim] = k.shape;
      const [kept, size] = [labels.shape[3], byteSize(k.dtype)];
      return cut(pages * heads * pageSize, { labels: kept * size, k: dim * size }, limits, 2).map((piece) => ({
        workgroups: groupsFor((slots.shape[0] * heads * kept * size) / 4),
        uniforms: [...[slots.shape[0], heads, kept, dim, pageSize, pages * pageSize], ...[piece.start, piece.count]].map(
          uniform.u32,
        ),
        ranges: piece.ranges,
      }));
    },
  },
  cases: (fc) =>
    fc
      .record({
        pages: fc.integer({ min: 1, max: 4 }),
        heads: fc.integer({ min: 1, max: 3 }),
        pageSize: fc.constantFrom(1, 4, 16),
        dim: fc.constantFrom(2, 8, 34),
        kept: fc.constantFrom(2, 4, 6),
        rows: fc.nat(9),
        dtype: fc.constantFrom('f32' as const, 'f16' as const),
      })
      .chain(({ pages, heads, pageSize, dim, kept, rows, dtype }) => {
        const n = Math.min(rows, pages * pageSize);
        return fc.record({
          inputs: fc.record({
            labels: caseTensor(fc, [pages, heads, pageSize, kept], { dtype }),
            k: caseTensor(fc, [pages, heads, pageSize, dim], { dtype }),
            channels: caseTensor(fc, [heads, kept], { dtype: 'i32', low: 0, high: dim - 1 }),
            slots: fc
              .shuffledSubarray([...Array(pages * pageSize).keys()], { minLength: n, maxLength: n })
              .map((ids): HostTensor => ({ shape: [n], dtype: 'i32', data: Int32Array.from(ids) })),
          }),
          attributes: fc.constant({}),
        });
      }),
});
