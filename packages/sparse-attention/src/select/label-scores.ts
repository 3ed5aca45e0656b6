import {
  caseTensor,
  defineOp,
  ExecutionError,
  formatShape,
  groupsFor,
  ShapeError,
  sizeOf,
  uniform,
  type HostTensor,
  type Tensor,
  type TensorMeta,
} from '@filigree/core-tensor';
import { selectionCase } from './cases.js';
import { hidden, withPlacement, selectionGeometry, selectionShape } from './geometry.js';
import shader from '@filigree/wgsl/sparse-attention/label-scores.wgsl';
import { commonWords, pageWindows, rowPieces, selectionShader } from './webgpu.js';

/** q as if it had the labels' channels alone: what the shared checks look at. */
function narrowed(q: TensorMeta, labels: TensorMeta): TensorMeta {
  return { ...q, shape: [...q.shape.slice(0, 3), labels.shape[3]] };
}

/**
 * Estimated scores of single keys from a few of their channels: y = scale · Σ_c q[channels[c]] · label[c].
 *
 * q [B,Hq,Lq,D] or [B,Lq,Hq,D] f32   labels [pages,Hk,P,r] f32 or f16, as append-labels makes them   channels i32 [Hk,r]
 * table i32 [B,pages per element]   lengths i32 [B,2]   kvMap i32 [Hq]   y [B,Hq,Lq,K] f32, K = capacity
 *
 * Keys after the query, and all of a query beyond lenQ, are −1e30. Reads r elements a key.
 *
 * Yang et al., "Post-Training Sparse Attention with Double Sparsity", arXiv:2408.07092.
 */
export const labelScoresOp = /* @__PURE__ */ defineOp({
  name: 'sparse-attention/label-scores',
  inputs: ['q', 'labels', 'channels', 'table?', 'lengths?', 'kvMap?'],
  outputs: ['y'],
  attributes: /* @__PURE__ */ withPlacement({ scale: { type: 'number' } }),
  dynamic: ['lengthK'],
  infer({ q, labels, channels, table, lengths, kvMap }, attributes) {
    if (q.shape.length !== 4 || labels.shape.length !== 4)
      throw new ShapeError(
        `label-scores: q ${formatShape(q.shape)} and labels ${formatShape(labels.shape)} must have four axes`,
      );
    const inputs = { q: narrowed(q, labels), k: labels, table, lengths, kvMap };
    const { batch, heads, kvHeads, lengthQ, capacity } = selectionShape('label-scores', inputs, attributes);
    if (channels.dtype !== 'i32' || channels.shape.join() !== `${kvHeads},${labels.shape[3]}`)
      throw new ShapeError(
        `label-scores: channels is ${channels.dtype} ${formatShape(channels.shape)}, it takes i32 [${kvHeads}, ${labels.shape[3]}]`,
      );
    return { y: { shape: [batch, heads, lengthQ, capacity], dtype: 'f32' } };
  },
  reference(io, attributes) {
    const { q, labels, channels, table, lengths, kvMap, y } = io;
    const dim = q.shape[3];
    const kept = labels.shape[3];
    for (const channel of channels.data)
      if (channel < 0 || channel >= dim) throw new ExecutionError(`label-scores: channel ${channel} is outside of ${dim}`);
    const inputs = { q: { ...q, ...narrowed(q, labels) }, k: labels, table, lengths, kvMap };
    const geometry = selectionGeometry('label-scores', inputs, attributes);
    const headsFirst = attributes.queryLayout === 'bhld';
    const { heads, lengthQ, capacity } = geometry;
    for (let batch = 0; batch < geometry.batch; batch++) {
      const { lenQ, lenK } = geometry.elements[batch];
      for (let head = 0; head < heads; head++) {
        const kvHead = geometry.kvHead(head);
        for (let query = 0; query < lengthQ; query++) {
          const row = headsFirst ? (batch * heads + head) * lengthQ + query : (batch * lengthQ + query) * heads + head;
          const at = ((batch * heads + head) * lengthQ + query) * capacity;
          y.data.fill(hidden, at, at + capacity);
          if (query >= lenQ) continue;
          for (let position = 0; position <= lenK - lenQ + query; position++) {
            const label = geometry.key(batch, kvHead, position);
            let sum = 0;
            for (let index = 0; index < kept; index++)
              sum += q.data[row * dim + channels.data[kvHead * kept + index]] * label[index];
            y.data[at + position] = attributes.scale * sum;
          }
        }
      }
    }
  },
  native: 'sparse_attention_label_scores',
  webgpu: {
    shader: (_, io) =>
      selectionShader(
        {
          op: 'sparse-attention/label-scores',
          source: shader,
          inputs: ['q', 'labels', 'channels', 'table', 'lengths', 'kvMap'],
          outputs: { y: 'f32' },
          pages: ['labels'],
          extra: { rows: 'u32', first_row: 'u32', columns: 'u32', scale: 'f32' },
        },
        io,
      ),
    plan(io, { scale, ...attributes }, limits) {
      const { q, labels, table, y } = io;
      if (!q || !labels || !y || sizeOf(y.shape) === 0) return [];
      const columns = y.shape[3];
      return rowPieces(q, attributes['queryLayout'], { y: 4 * columns }, limits).flatMap((piece) =>
        pageWindows(io, ['labels'], limits).map((window) => ({
          workgroups: groupsFor(piece.count * columns),
          uniforms: [
            ...commonWords(
              q,
              labels,
              table,
              attributes,
              { firstQ: piece.firstQ, firstKeyRow: window.start, keyRows: window.count },
              1,
            ),
            ...[piece.count, piece.start, columns].map(uniform.u32),
            uniform.f32(Number(scale)),
          ],
          ranges: { ...piece.ranges, ...window.ranges },
        })),
      );
    },
  },
  tolerance: { y: { absolute: 2e-3, relative: 1e-5 } },
  cases: (fc) =>
    selectionCase(fc).chain(({ inputs, kvHeads, queryLayout, dim, lengthK }) =>
      fc.tuple(inputs.k, fc.constantFrom(2, 4, 64)).chain(([keys, most]) => {
        const labels = firstChannels(keys, Math.min(dim, most));
        const kept = labels.shape[3];
        return fc.record({
          inputs: fc.record({
            q: inputs.q,
            labels: fc.constant(labels),
            channels: caseTensor(fc, [kvHeads, kept], { dtype: 'i32', low: 0, high: dim - 1 }),
            table: inputs.table,
            lengths: inputs.lengths,
            kvMap: inputs.kvMap,
          }),
          attributes: fc.record({
            scale: fc.constant(1 / Math.sqrt(dim)),
            queryLayout: fc.constant(queryLayout),
            lengthK: fc.constantFrom(-1, lengthK),
          }),
        });
      }),
    ),
});

/** The first channels of every row. */
function firstChannels(keys: HostTensor, kept: number): HostTensor {
  const dim = keys.shape[3];
  return { ...keys, shape: [...keys.shape.slice(0, 3), kept], data: keys.data.filter((_, at) => at % dim < kept) };
}

/** Estimated scores of every key, y [B,Hq,Lq,K]; see {@link labelScoresOp}. */
export function labelScores(
  q: Tensor,
  cache: { readonly labels: Tensor; readonly channels: Tensor },
  options: {
    readonly table?: Tensor | undefined;
    readonly lengths?: Tensor | undefined;
    readonly kvMap?: Tensor | undefined;
    readonly scale?: number | undefined;
    readonly queryLayout?: 'bhld' | 'blhd' | undefined;
    readonly lengthK?: number | undefined;
  } = {},
): Tensor {
  const { table, lengths, kvMap, scale = 1 / Math.sqrt(q.shape[3]), ...rest } = options;
  return labelScoresOp({ q, ...cache, table, lengths, kvMap }, { scale, ...rest }).y;
}
