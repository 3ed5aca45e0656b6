import {
  broadcastShapes,
  checkShape,
  formatShape,
  normalizeAxis,
  sameShape,
  ShapeError,
  sizeOf,
  stridesOf,
} from '@filigree/core-tensor';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

const shapes = fc.array(fc.nat(6), { maxLength: 5 });

describe('shapes', () => {
  it('of rank zero hold one element', () => {
    expect(sizeOf([])).toBe(1);
    expect(stridesOf([])).toEqual([]);
  });

  it('have row-major strides: the last axis is contiguous and each stride spans the axes behind it', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const strides = stridesOf(shape);
        shape.forEach((_, axis) => expect(strides[axis]).toBe(sizeOf(shape.slice(axis + 1))));
      }),
    );
  });

  it('are equal when every dimension is', () => {
    fc.assert(
      fc.property(shapes, shapes, (a, b) => {
        expect(sameShape(a, b)).toBe(formatShape(a) === formatShape(b));
      }),
    );
  });

  it.each([[[-1]], [[1.5]], [[NaN]], [[2 ** 53]], [[2 ** 30, 2 ** 30]]])('refuse %j', (shape) => {
    expect(() => {
      checkShape(shape, 'x');
    }).toThrow(ShapeError);
  });
});

describe('axes', () => {
  it('count from the end when negative', () => {
    expect([-3, -1, 0, 2].map((axis) => normalizeAxis(axis, 3, 'op'))).toEqual([0, 2, 0, 2]);
  });

  it.each([3, -4, 0.5, NaN])('refuse %s for rank 3', (axis) => {
    expect(() => normalizeAxis(axis, 3, 'op')).toThrow(/op: axis .* rank 3/);
  });
});

describe('broadcasting', () => {
  const dimensionPairs = fc.array(
    fc.oneof(
      fc.nat(5).map((dimension) => [dimension, dimension] as const),
      fc.nat(5).map((dimension) => [1, dimension] as const),
      fc.nat(5).map((dimension) => [dimension, 1] as const),
    ),
    { maxLength: 5 },
  );

  it('takes the dimension that is not 1, whichever side has it', () => {
    fc.assert(
      fc.property(dimensionPairs, (pairs) => {
        const [a, b] = [pairs.map(([left]) => left), pairs.map(([, right]) => right)];
        const expected = pairs.map(([left, right]) => (left === 1 ? right : left));
        expect(broadcastShapes(a, b, 'op')).toEqual(expected);
        expect(broadcastShapes(b, a, 'op')).toEqual(expected);
      }),
    );
  });

  it('treats missing leading axes as 1', () => {
    expect(broadcastShapes([4, 3], [3], 'op')).toEqual([4, 3]);
    expect(broadcastShapes([], [2, 0], 'op')).toEqual([2, 0]);
  });

  it('names both shapes when they do not fit', () => {
    expect(() => broadcastShapes([2, 3], [4, 3], 'add')).toThrow(/add: \[2, 3\] and \[4, 3\]/);
    expect(() => broadcastShapes([0], [2], 'add')).toThrow(ShapeError);
  });
});
