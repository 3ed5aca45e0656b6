import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cellPattern, isVisible, lowerMask, type BlockMask, type KeyRanges } from '../src/index.js';

/** Ranges that differ from query to query: a window, sinks, strides and rows that see all, from a few numbers. */
const rangesOf = fc
  .record({
    sinks: fc.nat(40),
    window: fc.integer({ min: 0, max: 70 }),
    stride: fc.integer({ min: 1, max: 40 }),
    wide: fc.integer({ min: 1, max: 30 }),
    ahead: fc.nat(20),
  })
  .map(({ sinks, window, stride, wide, ahead }): KeyRanges => ({ position, lenK, mask }) => {
    if (position % wide === 0) return [[0, lenK]];
    const strided = Array.from({ length: Math.floor(position / stride) }, (_, step): [number, number] => [
      position - (step + 1) * stride,
      position - (step + 1) * stride + 1 + mask,
    ]);
    return [[position - window, position + ahead], ...strided, [0, sinks]];
  });

const sizes = fc.record({
  masks: fc.integer({ min: 1, max: 2 }),
  causal: fc.boolean(),
  lengths: fc.array(fc.tuple(fc.nat(70), fc.nat(60)), { minLength: 1, maxLength: 2 }),
});

/** What a mask says of every cell of a head. */
function cells(mask: BlockMask, batch: number, head: number): boolean[][] {
  return Array.from({ length: mask.lenQ[batch] }, (_, query) =>
    Array.from({ length: mask.lenK[batch] }, (__, key) => isVisible(mask, batch, head, query, key)),
  );
}

describe('cellPattern', () => {
  it('shows every query its own ranges and nothing else', () => {
    fc.assert(
      fc.property(rangesOf, sizes, (ranges, { masks, causal, lengths }) => {
        const lenK = lengths.map(([queries, before]) => queries + before);
        const batch = lengths.length;
        const shape = { batch, heads: 3, lenQ: lengths.map(([queries]) => queries), lenK };
        const mask = cellPattern(shape, ranges, { causal, masks });
        for (let element = 0; element < batch; element++) {
          for (let head = 0; head < 3; head++) {
            const expected = Array.from({ length: shape.lenQ[element] }, (_, query) => {
              const position = lenK[element] - shape.lenQ[element] + query;
              const seen = ranges({ position, lenK: lenK[element], promptEnd: lenK[element], mask: head % masks });
              return Array.from(
                { length: lenK[element] },
                (__, key) => (!causal || key <= position) && seen.some(([start, end]) => key >= start && key < end),
              );
            });
            expect(cells(mask, element, head)).toEqual(expected);
          }
        }
      }),
    );
  });

  it('is lowered to a plan of as many cells', () => {
    fc.assert(
      fc.property(rangesOf, sizes, (ranges, { masks, causal, lengths }) => {
        const lenK = lengths.map(([queries, before]) => queries + before);
        const batch = lengths.length;
        const mask = cellPattern({ batch, heads: 2, lenQ: lengths.map(([queries]) => queries), lenK }, ranges, {
          causal,
          masks,
        });
        const visible = Array.from({ length: batch }, (_, element) => [0, 1].map((head) => cells(mask, element, head)));
        expect(lowerMask(mask).stats.cells).toBe(visible.flat(3).filter(Boolean).length);
      }),
    );
  });

  it('shows the queries of a chunk what they see in the whole prompt', () => {
    fc.assert(
      fc.property(rangesOf, fc.integer({ min: 1, max: 99 }), fc.integer({ min: 1, max: 40 }), (ranges, start, count) => {
        const whole = cellPattern({ batch: 1, heads: 1, lenQ: [100], lenK: [100] }, ranges);
        const end = Math.min(100, start + count);
        const chunk = cellPattern({ batch: 1, heads: 1, lenQ: [end - start], lenK: [end], promptEnd: [100] }, ranges);
        const rows = cells(whole, 0, 0).slice(start, end);
        expect(cells(chunk, 0, 0)).toEqual(rows.map((row) => row.slice(0, end)));
      }),
    );
  });
});
