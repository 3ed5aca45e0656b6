import shader from '@filigree/wgsl/core/rope.wgsl';
import { caseTensor } from '../cases.js';
import { ShapeError } from '../errors.js';
import { defineOp } from '../op.js';
import { formatShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { expectDType, expectRank } from './check.js';
import { cut, f32, groupsFor, u32 } from './plan.js';

/** Which channels form a rotated pair: i and i + dims/2 (`half`), or 2i and 2i + 1 (`interleaved`). */
export const ropePairings = ['half', 'interleaved'] as const;
export type RopePairing = (typeof ropePairings)[number];

/**
 * Rotary position embedding: pair i of every head turns by positions[t] · inverseFrequencies[i]; channels beyond the pairs pass through.
 *
 * x [T, heads, dim] f32   positions [T] i32   inverseFrequencies [dims/2] f32, dims ≤ dim   y [T, heads, dim] f32
 *
 * `scale` multiplies cosine and sine (the attention factor of YaRN). Every published scaling of RoPE is a way to compute the
 * frequencies: see {@link ropeFrequencies}. Su et al., "RoFormer", arXiv:2104.09864.
 */
export const ropeOp = /* @__PURE__ */ defineOp({
  name: 'core/rope',
  inputs: ['x', 'positions', 'inverseFrequencies'],
  outputs: ['y'],
  attributes: {
    pairing: { type: 'enum', values: ropePairings, default: 'half' },
    scale: { type: 'number', default: 1 },
  },
  infer({ x, positions, inverseFrequencies }) {
    expectRank('rope', 'x', x, 3, '[tokens, heads, dim]');
    expectDType('rope', 'x', x, 'f32');
    expectDType('rope', 'positions', positions, 'i32');
    expectDType('rope', 'inverseFrequencies', inverseFrequencies, 'f32');
    if (positions.shape.length !== 1 || positions.shape[0] !== x.shape[0]) {
      throw new ShapeError(`rope: positions ${formatShape(positions.shape)} do not match the ${x.shape[0]} tokens of x`);
    }
    if (inverseFrequencies.shape.length !== 1 || 2 * inverseFrequencies.shape[0] > x.shape[2]) {
      throw new ShapeError(
        `rope: inverseFrequencies ${formatShape(inverseFrequencies.shape)} turn more channels than the ${x.shape[2]} of x`,
      );
    }
    return { y: x };
  },
  reference({ x, positions, inverseFrequencies, y }, { pairing, scale }) {
    const [tokens, heads, dim] = x.shape;
    const pairs = inverseFrequencies.shape[0];
    y.data.set(x.data);
    for (let token = 0; token < tokens; token++) {
      for (let pair = 0; pair < pairs; pair++) {
        const angle = Math.fround(positions.data[token] * inverseFrequencies.data[pair]);
        const [cosine, sine] = [Math.cos(angle) * scale, Math.sin(angle) * scale];
        const [first, second] = pairing === 'half' ? [pair, pair + pairs] : [2 * pair, 2 * pair + 1];
        for (let head = 0; head < heads; head++) {
          const at = (token * heads + head) * dim;
          const [a, b] = [x.data[at + first], x.data[at + second]];
          y.data[at + first] = a * cosine - b * sine;
          y.data[at + second] = b * cosine + a * sine;
        }
      }
    }
  },
  native: 'core_rope',
  webgpu: {
    shader: () => shader,
    plan({ x, inverseFrequencies }, { pairing, scale }, limits) {
      const [tokens, heads, dim] = x?.shape ?? [0, 0, 0];
      const pairs = inverseFrequencies?.shape[0] ?? 0;
      const rowBytes = 4 * heads * dim;
      return cut(tokens, { x: rowBytes, positions: 4, y: rowBytes }, limits).map(({ count, ranges }) => {
        const slots = count * heads * (dim - pairs);
        return {
          workgroups: groupsFor(slots),
          uniforms: [...[slots, heads, dim, pairs, pairing === 'half' ? 1 : 0].map(u32), f32(Number(scale))],
          ranges,
        };
      });
    },
  },
  tolerance: { y: { absolute: 2e-4, relative: 1e-4 } },
  cases: (fc) =>
    fc
      .record({
        tokens: fc.nat(5),
        heads: fc.integer({ min: 1, max: 4 }),
        pairs: fc.constantFrom(1, 4, 8, 16, 32, 33),
        rest: fc.constantFrom(0, 0, 3),
        start: fc.constantFrom(0, 7, 1000),
      })
      .chain(({ tokens, heads, pairs, rest, start }) =>
        fc.record({
          inputs: fc.record({
            x: caseTensor(fc, [tokens, heads, 2 * pairs + rest]),
            positions: fc.constant({
              shape: [tokens],
              dtype: 'i32' as const,
              data: Int32Array.from({ length: tokens }, (_, index) => start + index),
            }),
            inverseFrequencies: fc.constant({
              shape: [pairs],
              dtype: 'f32' as const,
              data: Float32Array.from({ length: pairs }, (_, pair) => 10000 ** (-pair / pairs)),
            }),
          }),
          attributes: fc.record({ pairing: fc.constantFrom(...ropePairings), scale: fc.constantFrom(1, 1.2) }),
        }),
      )
      .map(boundedRope),
});

/** Angles of some thousand radians lose f32 digits on every path: values stay near one so that the absolute tolerance means something. */
function boundedRope<T extends { inputs: { x: { data: { [index: number]: number; length: number } } } }>(generated: T): T {
  const { data } = generated.inputs.x;
  for (let index = 0; index < data.length; index++) data[index] = Math.max(-4, Math.min(4, data[index]));
  return generated;
}

/** Rotates x [T, heads, dim] by the positions [T]; see {@link ropeOp}. */
export function rope(
  x: Tensor,
  positions: Tensor,
  inverseFrequencies: Tensor,
  options: { pairing?: RopePairing; scale?: number } = {},
): Tensor {
  return ropeOp({ x, positions, inverseFrequencies }, options).y;
}
