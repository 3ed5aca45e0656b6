import {
  checkPlan,
  isVisible,
  lowerMask,
  maskToDense,
  packPlan,
  transposePlan,
  unpackPlan,
  visibleKeys,
  type AttnPlan,
  type BlockMask,
} from '@filigree/sparse-attention';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { maskOfCase } from '../src/ops/mask-cases.js';

const masks = fc
  .record({
    batch: fc.integer({ min: 1, max: 2 }),
    heads: fc.integer({ min: 1, max: 3 }),
    lengthQ: fc.nat(70),
    past: fc.nat(90),
  })
  .chain(({ batch, heads, lengthQ, past }) => maskOfCase(fc, { batch, heads, lengthQ, lengthK: lengthQ + past }));

function keysSeen(mask: BlockMask, batch: number, head: number, query: number): number[] {
  return Array.from({ length: mask.lenK[batch] }, (_, key) => key).filter((key) => isVisible(mask, batch, head, query, key));
}

function forQueries(mask: BlockMask, check: (batch: number, head: number, query: number) => void): void {
  for (let batch = 0; batch < mask.batch; batch++)
    for (let head = 0; head < mask.headMap.length; head++)
      for (let query = 0; query < mask.lenQ[batch]; query++) check(batch, head, query);
}

describe('lowerMask', () => {
  it('shows every query the cells of the mask, and no others', () => {
    fc.assert(
      fc.property(masks, (mask) => {
        const plan = lowerMask(mask);
        forQueries(mask, (batch, head, query) => {
          expect(visibleKeys(plan, batch, head, query).keys).toEqual(keysSeen(mask, batch, head, query));
        });
      }),
      { numRuns: 200 },
    );
  });

  it('keeps ranges and columns ascending, disjoint and within the causal limit', () => {
    fc.assert(
      fc.property(masks, (mask) => {
        checkPlan(lowerMask(mask));
      }),
      { numRuns: 200 },
    );
  });

  it('counts the cells that it shows', () => {
    fc.assert(
      fc.property(masks, (mask) => {
        const plan = lowerMask(mask);
        const dense = maskToDense(mask);
        expect(plan.stats.cells).toBe(dense.reduce((a, b) => a + b, 0));
      }),
      { numRuns: 100 },
    );
  });

  it('orders rows by descending work', () => {
    fc.assert(
      fc.property(masks, (mask) => {
        const { order, work } = lowerMask(mask);
        expect([...order].sort((a, b) => a - b)).toEqual([...work.keys()]);
        expect(order.every((row, index) => index === 0 || work[order[index - 1]] >= work[row])).toBe(true);
      }),
    );
  });
});

describe('packPlan', () => {
  it('is undone by unpackPlan', () => {
    fc.assert(
      fc.property(masks, (mask) => {
        const plan = lowerMask(mask);
        const packed = packPlan({ ...plan, kvMap: mask.headMap });
        const unpacked = unpackPlan(packed);
        expect(packed[7]).toBe(packed.length);
        expect(unpacked.kvMap).toEqual(mask.headMap);
        expect(unpacked.order).toEqual(plan.order);
        expect(unpacked.cells).toEqual(plan.cells);
        forQueries(mask, (batch, head, query) => {
          expect(visibleKeys(unpacked, batch, head, query)).toEqual(visibleKeys(plan, batch, head, query));
        });
      }),
    );
  });
});

describe('transposePlan', () => {
  /** Whether a row has a key in a tile. */
  const touches = (plan: AttnPlan, row: number, start: number, end: number): boolean => {
    const ranges = Array.from({ length: plan.rangeCnt[row] }, (_, index) => 3 * (plan.rangeBeg[row] + index));
    const columns = plan.cols.subarray(plan.colBeg[row], plan.colBeg[row] + plan.colCnt[row]);
    return (
      ranges.some((at) => plan.ranges[at] < end && plan.ranges[at + 1] > start) ||
      columns.some((key) => key >= start && key < end)
    );
  };

  it('names for every tile of keys the rows that read some of them', () => {
    fc.assert(
      fc.property(masks, fc.constantFrom(1, 16, 64), (mask, tileK) => {
        const plan = lowerMask(mask);
        const { tiles, tilePtr, rows } = transposePlan(plan, tileK);
        for (let tile = 0; tile < tilePtr.length - 1; tile++) {
          const [head, start] = [Math.floor(tile / tiles), (tile % tiles) * tileK];
          const expected = Array.from({ length: plan.rowsPerHead }, (_, row) => head * plan.rowsPerHead + row).filter((row) =>
            touches(plan, row, start, start + tileK),
          );
          expect([...rows.subarray(tilePtr[tile], tilePtr[tile + 1])]).toEqual(expected);
        }
      }),
      { numRuns: 50 },
    );
  });
});

describe('maskToDense', () => {
  it('refuses what would be too large', () => {
    const mask = { batch: 1, headMap: new Int32Array(1), lenQ: Int32Array.of(8192), lenK: Int32Array.of(8192) };
    expect(() => maskToDense(mask as unknown as BlockMask)).toThrow(/2\^24/);
  });
});

describe('checkPlan', () => {
  const shape = { batch: 1, maskHeads: 1, headMap: new Int32Array(1), lenQ: Int32Array.of(4), lenK: Int32Array.of(8) };
  const plan = (ranges: number[], cols: number[]): AttnPlan => ({
    ...shape,
    ...{ qOffset: Int32Array.of(4), blockQ: 4, rowsPerHead: 1, causal: true, window: 0 },
    ...{ rangeBeg: Int32Array.of(0), rangeCnt: Int32Array.of(ranges.length / 3), ranges: Int32Array.from(ranges) },
    ...{ colBeg: Int32Array.of(0), colCnt: Int32Array.of(cols.length), cols: Int32Array.from(cols) },
    ...{ work: Uint32Array.of(0), order: Int32Array.of(0), cells: Uint32Array.of(0) },
    stats: { density: 0, cells: 0, rangeKeys: 0, columnKeys: 0 },
  });

  it('names a row that counts a key twice', () => {
    expect(() => {
      checkPlan(plan([0, 4, 0], [3]));
    }).toThrow(/key 3 twice/);
  });

  it('names a row that sees beyond its keys', () => {
    expect(() => {
      checkPlan(plan([0, 9, 1], []));
    }).toThrow(/limit is 8/);
  });

  it('names a row of a complete plan that is empty', () => {
    expect(() => {
      checkPlan(plan([], []), { complete: true });
    }).toThrow(/0 cells for 4 queries/);
  });
});
