import {
  defineOp,
  DTypeError,
  formatShape,
  groupsFor,
  OptionError,
  ShapeError,
  sizeOf,
  uniform,
  type HostTensor,
  type Tensor,
} from '@filigree/core-tensor';
import { bf16Above } from './bf16-above.js';
import { selectionCase } from './cases.js';
import { expectPositive, hidden, withPlacement, selectionGeometry, selectionShape } from './geometry.js';
import shader from '@filigree/wgsl/sparse-attention/bound-scores.wgsl';
import { commonWords, pageWindows, rowPieces, selectionShader } from './webgpu.js';

const boundTypes = ['f32', 'f16', 'bf16'] as const;

/**
 * Upper bounds of the scores of pages of keys: y = scale · Σ_d max(q_d · min_d, q_d · max_d), at least every scale · q·k of the page. The greater of both is
 * the product with min_d where q_d is negative, with max_d elsewhere.
 *
 * q [B,Hq,Lq,D] or [B,Lq,Hq,D] f32   keyMin, keyMax [pages,Hk,N',D] f32, f16 or bf16, as page-bounds makes them
 * table i32 [B,pages per element]   lengths i32 [B,2]   kvMap i32 [Hq]   y [B,Hq,Lq,N] f32, N = pages per element · N'
 *
 * `page`: keys per bound. A bound whose first key is after the query, and every bound of a query beyond lenQ, is −1e30. Reads 2·D elements a page.
 *
 * Tang et al., "Quest: Query-Aware Sparsity for Efficient Long-Context LLM Inference", arXiv:2406.10774.
 */
export const boundScoresOp = /* @__PURE__ */ defineOp({
  name: 'sparse-attention/bound-scores',
  inputs: ['q', 'keyMin', 'keyMax', 'table?', 'lengths?', 'kvMap?'],
  outputs: ['y'],
  attributes: /* @__PURE__ */ withPlacement({ scale: { type: 'number' }, page: { type: 'number' } }),
  dynamic: ['lengthK'],
  infer({ q, keyMin, keyMax, table, lengths, kvMap }, { page, queryLayout, lengthK }) {
    expectPositive('bound-scores', { page });
    if (keyMax.dtype !== keyMin.dtype) throw new DTypeError(`bound-scores: keyMax is ${keyMax.dtype}, keyMin ${keyMin.dtype}`);
    if (keyMax.shape.join() !== keyMin.shape.join())
      throw new ShapeError(`bound-scores: keyMax ${formatShape(keyMax.shape)} and keyMin ${formatShape(keyMin.shape)} differ`);
    const shape = selectionShape(
      'bound-scores',
      { q, k: keyMin, table, lengths, kvMap },
      { queryLayout, lengthK: -1 },
      boundTypes,
    );
    const { batch, heads, lengthQ, capacity } = shape;
    if (!Number.isInteger(lengthK) || lengthK < -1 || lengthK > capacity * page)
      throw new OptionError(`bound-scores: lengthK is ${lengthK}, ${capacity} pages hold ${capacity * page} keys`);
    return { y: { shape: [batch, heads, lengthQ, capacity], dtype: 'f32' } };
  },
  reference(io, { scale, page, queryLayout, lengthK }) {
    const { q, table, kvMap } = io;
    const inputs = { q, k: io.keyMin, table, kvMap };
    const least = selectionGeometry('bound-scores', inputs, { queryLayout, lengthK: -1 }, boundTypes);
    const greatest = selectionGeometry('bound-scores', { ...inputs, k: io.keyMax }, { queryLayout, lengthK: -1 }, boundTypes);
    const { batch: batches, heads, lengthQ, capacity } = least;
    for (let batch = 0; batch < batches; batch++) {
      const lenQ = io.lengths?.data[2 * batch] ?? lengthQ;
      const lenK = io.lengths?.data[2 * batch + 1] ?? (lengthK < 0 ? capacity * page : lengthK);
      for (let head = 0; head < heads; head++) {
        for (let query = 0; query < lengthQ; query++) {
          for (let index = 0; index < capacity; index++) {
            const visible = query < lenQ && index * page <= lenK - lenQ + query;
            const at = ((batch * heads + head) * lengthQ + query) * capacity + index;
            io.y.data[at] = hidden;
            if (!visible) continue;
            const [low, high] = [least, greatest].map((side) => side.key(batch, side.kvHead(head), index));
            io.y.data[at] = scale * bound(least.query(batch, head, query), low, high);
          }
        }
      }
    }
  },
  native: 'sparse_attention_bound_scores',
  webgpu: {
    shader: (_, io) =>
      selectionShader(
        {
          op: 'sparse-attention/bound-scores',
          source: shader,
          inputs: ['q', 'keyMin', 'keyMax', 'table', 'lengths', 'kvMap'],
          outputs: { y: 'f32' },
          pages: ['keyMin', 'keyMax'],
          extra: { rows: 'u32', first_row: 'u32', columns: 'u32', page: 'u32', scale: 'f32' },
        },
        io,
      ),
    plan(io, { scale, page, ...attributes }, limits) {
      const { q, keyMin, table, y } = io;
      if (!q || !keyMin || !y || sizeOf(y.shape) === 0) return [];
      const columns = y.shape[3];
      return rowPieces(q, attributes['queryLayout'], { y: 4 * columns }, limits).flatMap((piece) =>
        pageWindows(io, ['keyMin', 'keyMax'], limits).map((window) => ({
          workgroups: groupsFor(piece.count * columns),
          uniforms: [
            ...commonWords(
              q,
              keyMin,
              table,
              attributes,
              { firstQ: piece.firstQ, firstKeyRow: window.start, keyRows: window.count },
              Number(page),
            ),
            ...[piece.count, piece.start, columns, Number(page)].map(uniform.u32),
            uniform.f32(Number(scale)),
          ],
          ranges: { ...piece.ranges, ...window.ranges },
        })),
      );
    },
  },
  tolerance: { y: { absolute: 2e-3, relative: 1e-5 } },
  cases: (fc) =>
    selectionCase(fc).chain(({ inputs, batch, lengthQ, queryLayout, dim, lengthK }) =>
      fc.tuple(fc.constantFrom(1, 3, 16), fc.boolean()).chain(([page, rounded]) =>
        fc.tuple(inputs.k, inputs.k).chain(([a, b]) => {
          const dtype = rounded ? 'bf16' : a.dtype;
          const pick = (sign: 1 | -1): HostTensor => ({
            ...{ shape: a.shape, dtype },
            data: a.data.map((value, index) => {
              const greatest = Math.max(sign * value, sign * b.data[index]);
              return sign * (rounded ? bf16Above(greatest) : greatest);
            }),
          });
          const lengths = fc
            .array(fc.tuple(fc.nat(lengthQ), fc.nat(lengthK * page)), { minLength: batch, maxLength: batch })
            .map((rows): HostTensor => ({ shape: [batch, 2], dtype: 'i32', data: Int32Array.from(rows.flat()) }));
          return fc.record({
            inputs: fc.record({
              q: inputs.q,
              keyMin: fc.constant(pick(-1)),
              keyMax: fc.constant(pick(1)),
              table: inputs.table,
              lengths: fc.option(lengths, { nil: undefined }),
              kvMap: inputs.kvMap,
            }),
            attributes: fc.record({
              scale: fc.constant(1 / Math.sqrt(dim)),
              page: fc.constant(page),
              queryLayout: fc.constant(queryLayout),
              lengthK: fc.constantFrom(-1, lengthK * page),
            }),
          });
        }),
      ),
    ),
});

function bound(query: ArrayLike<number>, low: ArrayLike<number>, high: ArrayLike<number>): number {
  let sum = 0;
  for (let channel = 0; channel < query.length; channel++) {
    sum += query[channel] * (query[channel] < 0 ? low[channel] : high[channel]);
  }
  return sum;
}

/** Bounds of the scores of every page, y [B,Hq,Lq,N]; see {@link boundScoresOp}. */
export function boundScores(
  q: Tensor,
  bounds: { readonly keyMin: Tensor; readonly keyMax: Tensor; readonly page: number },
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
  const { keyMin, keyMax, page } = bounds;
  return boundScoresOp({ q, keyMin, keyMax, table, lengths, kvMap }, { scale, page, ...rest }).y;
}
