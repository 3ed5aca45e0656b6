import {
  combinePlans,
  lowerMask,
  packPlan,
  slidingWindow,
  streaming,
  unpackPlan,
  visibleKeys,
  type AttnPlan,
  type Pattern,
} from '@filigree/sparse-attention';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

const streams: fc.Arbitrary<Pattern> = fc
  .record({ sinks: fc.nat(5), window: fc.integer({ min: 1, max: 40 }), lastRows: fc.constantFrom(0, 0, 3) })
  .map(streaming);
const parts = <T>(make: fc.Arbitrary<T>): fc.Arbitrary<{ make: T; heads: number }[]> =>
  fc.array(fc.record({ make, heads: fc.integer({ min: 1, max: 3 }) }), { minLength: 1, maxLength: 4 });
/** Parts without a window of the plan, or with the same one. */
const combinableParts = fc.oneof(
  parts(streams),
  fc.integer({ min: 1, max: 30 }).chain((window) => parts(fc.constant(slidingWindow({ window })))),
);

describe('combinePlans', () => {
  it('shows every head what its own plan shows', () => {
    fc.assert(
      fc.property(
        combinableParts,
        fc.integer({ min: 1, max: 50 }),
        fc.nat(50),
        fc.integer(),
        (parts, lengthQ, before, seed) => {
          const count = parts.reduce((sum, { heads }) => sum + heads, 0);
          const order = shuffled(count, seed);
          let next = 0;
          const plans = parts.map(({ make, heads }) => {
            const mine = order.slice(next, (next += heads)).sort((a, b) => a - b);
            return { heads: mine, plan: lowerMask(make({ batch: 1, heads, lenQ: [lengthQ], lenK: [before + lengthQ] })) };
          });
          const combined = combinePlans(plans);
          const packed = unpackPlan(packPlan(combined));
          for (const { heads, plan } of plans) {
            for (const [index, head] of heads.entries()) {
              for (let query = 0; query < lengthQ; query++)
                expect(visibleKeys(packed, 0, head, query)).toEqual(visibleKeys(plan, 0, index, query));
            }
          }
          expect(combined.stats.cells).toBe(plans.reduce((sum, { plan }) => sum + plan.stats.cells, 0));
          expect([...combined.order].sort((a, b) => a - b)).toEqual([...combined.order.keys()]);
        },
      ),
    );
  });

  it('maps a part of the heads to their key-value heads', () => {
    const plan = lowerMask(slidingWindow({ window: 4 })({ batch: 1, heads: 2, lenQ: [5], lenK: [9] }));
    expect([...(combinePlans([{ plan, heads: [1, 4] }], [0, 0, 1, 1, 2, 2]).kvMap ?? [])]).toEqual([0, 2]);
  });

  it('refuses plans of other lengths, and of other windows', () => {
    const of = (window: number, length: number) =>
      lowerMask(slidingWindow({ window })({ batch: 1, heads: 1, lenQ: [5], lenK: [length] }));
    const combine = (...plans: AttnPlan[]) => combinePlans(plans.map((plan, head) => ({ plan, heads: [head] })));
    expect(() => combine(of(4, 9), of(4, 10))).toThrow(/same queries and keys/);
    expect(() => combine(of(4, 9), of(3, 9))).toThrow(/one window/);
  });
});

function shuffled(count: number, seed: number): number[] {
  const key = (index: number): number => Math.imul(index + 1, 2654435761 ^ seed) >>> 0;
  return [...Array(count).keys()].sort((a, b) => key(a) - key(b));
}
