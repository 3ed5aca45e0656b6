import shader from '@filigree/wgsl/core/scatter-rows.wgsl';
import { caseTensor } from '../cases.js';
import { ShapeError } from '../errors.js';
import { defineOp } from '../op.js';
import { formatShape, sameShape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { expectDType, expectRank } from './check.js';
import { checkIds } from './gather-rows.js';
import { cut, groupsFor, u32 } from './plan.js';

export const scatterModes = ['set', 'add'] as const;

/**
 * y = x, then for i ascending y[ids[i]] = rows[i] (`set`) or y[ids[i]] += rows[i] (`add`). Duplicate ids are taken in order.
 *
 * x [V, D] f32, ids [T] i32, rows [T, D] f32, y [V, D] f32.
 */
export const scatterRowsOp = /* @__PURE__ */ defineOp({
  name: 'core/scatter-rows',
  inputs: ['x', 'ids', 'rows'],
  outputs: ['y'],
  attributes: { mode: { type: 'enum', values: scatterModes, default: 'add' } },
  infer({ x, ids, rows }) {
    expectDType('scatter-rows', 'x', x, 'f32');
    expectDType('scatter-rows', 'rows', rows, 'f32');
    expectDType('scatter-rows', 'ids', ids, 'i32');
    expectRank('scatter-rows', 'x', x, 2, '[rows, width]');
    if (!sameShape(rows.shape, [ids.shape[0], x.shape[1]])) {
      throw new ShapeError(
        `scatter-rows: rows ${formatShape(rows.shape)} do not match ids ${formatShape(ids.shape)} and x ${formatShape(x.shape)}`,
      );
    }
    return { y: x };
  },
  reference({ x, ids, rows, y }, { mode }) {
    checkIds('scatter-rows', ids.data, x.shape[0]);
    y.data.set(x.data);
    const width = x.shape[1];
    for (let row = 0; row < ids.data.length; row++) {
      for (let column = 0; column < width; column++) {
        const at = ids.data[row] * width + column;
        y.data[at] = (mode === 'add' ? y.data[at] : 0) + rows.data[row * width + column];
      }
    }
  },
  native: 'core_scatter_rows',
  webgpu: {
    shader: () => shader,
    plan({ x, ids }, { mode }, limits) {
      if (!x || !ids) return [];
      const width = x.shape[1];
      const items = cut(ids.shape[0], { ids: 4, rows: 4 * width }, limits);
      // Without rows to write the result is a copy of x.
      const passes = items.length > 0 ? items : [{ start: 0, count: 0, ranges: {} }];
      return cut(sizeOf(x.shape), { x: 4, y: 4 }, limits).flatMap((piece) =>
        passes.map((pass) => ({
          workgroups: groupsFor(piece.count),
          uniforms: [piece.count, width, pass.count, mode === 'add' ? 1 : 0, piece.start, pass.start > 0 ? 1 : 0].map(u32),
          ranges: { ...piece.ranges, ...pass.ranges },
        })),
      );
    },
  },
  cases: (fc) =>
    fc.record({ rows: fc.integer({ min: 1, max: 9 }), width: fc.nat(20), count: fc.nat(9) }).chain(({ rows, width, count }) =>
      fc.record({
        inputs: fc.record({
          x: caseTensor(fc, [rows, width]),
          ids: caseTensor(fc, [count], { dtype: 'i32', low: 0, high: rows - 1 }),
          rows: caseTensor(fc, [count, width]),
        }),
        attributes: fc.record({ mode: fc.constantFrom(...scatterModes) }),
      }),
    ),
});

/** x with rows written or added by id. */
export function scatterRows(x: Tensor, ids: Tensor, rows: Tensor, mode: (typeof scatterModes)[number] = 'add'): Tensor {
  return scatterRowsOp({ x, ids, rows }, { mode }).y;
}
