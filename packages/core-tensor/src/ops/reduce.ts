import shader from '@filigree/wgsl/core/reduce.wgsl';
import { caseTensor } from '../cases.js';
import { ShapeError } from '../errors.js';
import { defineOp } from '../op.js';
import { normalizeAxis, sizeOf, type Shape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import type { WebGpuLimits } from '../webgpu-kernel.js';
import { expectDType } from './check.js';
import { groupsFor, itemsPerBinding, u32 } from './plan.js';

/** Reductions, in the order in which kernels number them. */
export const reduceKinds = ['sum', 'mean', 'max', 'min', 'prod'] as const;
export type ReduceKind = (typeof reduceKinds)[number];

function split(shape: Shape, axis: number): { outer: number; length: number; inner: number } {
  const at = normalizeAxis(axis, shape.length, 'reduce');
  return { outer: sizeOf(shape.slice(0, at)), length: shape[at], inner: sizeOf(shape.slice(at + 1)) };
}

/**
 * Pieces of a reduction whose part of x fits into a binding: whole outer rows where one fits; else steps of the axis, one outer row at a time;
 * else parts of the inner axes, one step at a time.
 */
function reducePieces(
  { outer, length, inner }: { outer: number; length: number; inner: number },
  limits: WebGpuLimits,
): { outer: number; outers: number; step: number; steps: number; first: number; count: number }[] {
  const most = itemsPerBinding(limits, 4);
  const outers = Math.max(1, Math.floor(most / Math.max(1, length * inner)));
  const whole = length * inner <= most;
  const steps = whole ? length : Math.max(1, Math.floor(most / inner));
  const count = inner <= most ? inner : most;
  const pieces = [];
  for (let at = 0; at < outer && inner > 0; at += outers) {
    for (let first = 0; first < inner; first += count) {
      for (let step = 0; step === 0 || step < length; step += Math.max(1, steps)) {
        pieces.push({
          outer: at,
          outers: Math.min(outers, outer - at),
          step,
          steps: Math.min(steps, length - step),
          first,
          count: Math.min(count, inner - first),
        });
      }
    }
  }
  return pieces;
}

/**
 * Reduction over one axis. x [..., n, ...] f32 → y [..., ...] (or [..., 1, ...] with `keepDims`) f32.
 *
 * Empty axes give 0 for `sum`, 1 for `prod`, NaN for `mean`; `max` and `min` of nothing are refused; they return NaN when there is one.
 */
export const reduceOp = /* @__PURE__ */ defineOp({
  name: 'core/reduce',
  inputs: ['x'],
  outputs: ['y'],
  attributes: {
    kind: { type: 'enum', values: reduceKinds },
    axis: { type: 'number', default: -1 },
    keepDims: { type: 'boolean', default: false },
  },
  infer({ x }, { kind, axis, keepDims }) {
    expectDType('reduce', 'x', x, 'f32');
    const at = normalizeAxis(axis, x.shape.length, `reduce ${kind}`);
    if (x.shape[at] === 0 && (kind === 'max' || kind === 'min'))
      throw new ShapeError(`reduce ${kind}: axis ${axis} of x is empty`);
    return {
      y: { shape: keepDims ? x.shape.map((d, i) => (i === at ? 1 : d)) : x.shape.filter((_, i) => i !== at), dtype: 'f32' },
    };
  },
  reference({ x, y }, { kind, axis }) {
    const { outer, length, inner } = split(x.shape, axis);
    for (let index = 0; index < outer * inner; index++) {
      const at = Math.floor(index / inner) * length * inner + (index % inner);
      let value = kind === 'prod' ? 1 : kind === 'max' ? -Infinity : kind === 'min' ? Infinity : 0;
      for (let step = 0; step < length; step++) {
        const element = x.data[at + step * inner];
        if (kind === 'max') value = Math.max(value, element);
        else if (kind === 'min') value = Math.min(value, element);
        else if (kind === 'prod') value *= element;
        else value += element;
      }
      y.data[index] = kind === 'mean' ? value / length : value;
    }
  },
  native: 'core_reduce',
  webgpu: {
    shader: () => shader,
    plan({ x }, { kind, axis }, limits) {
      if (!x) return [];
      const sizes = split(x.shape, Number(axis));
      return reducePieces(sizes, limits).map(({ outer, outers, step, steps, first, count }) => ({
        workgroups: groupsFor(outers * count),
        uniforms: [
          outers * count,
          steps,
          count,
          sizes.inner,
          sizes.length * sizes.inner,
          reduceKinds.indexOf(kind as ReduceKind),
          step === 0 ? 1 : 0,
          step + steps === sizes.length ? 1 : 0,
          sizes.length,
        ].map(u32),
        ranges: {
          // From the first element to the last one of the piece; a part of the inner axes comes one step at a time.
          x: {
            byteOffset: 4 * ((outer * sizes.length + step) * sizes.inner + first),
            byteLength: 4 * (outers > 1 ? outers * sizes.length * sizes.inner : Math.max(0, steps - 1) * sizes.inner + count),
          },
          y: { byteOffset: 4 * (outer * sizes.inner + first), byteLength: 4 * outers * count },
        },
      }));
    },
  },
  tolerance: { y: { absolute: 1e-3, relative: 1e-4 } },
  cases: (fc) =>
    fc
      .tuple(fc.array(fc.nat(12), { minLength: 1, maxLength: 3 }), fc.constantFrom(...reduceKinds), fc.nat(5))
      .chain(([shape, wanted, seed]) => {
        const axis = (seed % (2 * shape.length)) - shape.length;
        // Nothing has no largest and no smallest element.
        const kind = shape.at(axis) === 0 ? 'sum' : wanted;
        return fc.record({
          inputs: fc.record({ x: caseTensor(fc, shape, kind === 'prod' ? { low: 0.9, high: 1.1 } : {}) }),
          attributes: fc.record({ kind: fc.constant(kind), axis: fc.constant(axis), keepDims: fc.boolean() }),
        });
      }),
});

/** Reduces one axis of x (the last by default). */
export function reduce(x: Tensor, kind: ReduceKind, options: { axis?: number; keepDims?: boolean } = {}): Tensor {
  return reduceOp({ x }, { kind, ...options }).y;
}
