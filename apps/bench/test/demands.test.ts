import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeBound, decodeBytes, prefillBound, withWindow, type Demands } from '../src/llama/demands.js';
import { speedGoal } from '../src/llama/goals.js';
import { decode128, prefill4096, prefill512, textTokens } from '../src/llama/speed-test.js';
import { contextTests } from '../src/suites/context.js';

const demands: Demands = {
  fileBytes: 1000,
  weightBytes: 1000,
  rowBytes: 8,
  windows: [0, 4],
  matmulOperations: 100,
  outputOperations: 50,
  cellOperations: 10,
  contextLength: 8192,
};

describe('the bytes of a decoded token', () => {
  it('are the weights and the rows that each layer sees', () => {
    // The first token after 10 sees 11 positions in one layer, 4 in the other.
    expect(decodeBytes(demands, { phase: 'decode', tokens: 1, context: 10 })).toBe(1000 + 8 * (11 + 4));
  });

  it('are a mean over the tokens decoded', () => {
    expect(decodeBytes(demands, { phase: 'decode', tokens: 3, context: 10 })).toBe(1000 + 8 * (12 + 4));
  });

  it('grow with the context, and stay where every layer has a window', () => {
    fc.assert(
      fc.property(fc.integer({ min: 16, max: 5000 }), (context) => {
        const bytes = (of: Demands, at: number) => decodeBytes(of, { phase: 'decode', tokens: 2, context: at });
        expect(bytes(demands, context + 1)).toBeGreaterThan(bytes(demands, context));
        expect(bytes(withWindow(demands, 16), context + 1)).toBe(bytes(withWindow(demands, 16), context));
      }),
    );
  });

  it('over the bandwidth are the bound', () => {
    const test = { phase: 'decode', tokens: 1, context: 10 } as const;
    expect(decodeBound(demands, test, { readGBps: 2, f32GFLOPs: 1, int8GOPs: 1 })).toBeCloseTo(2e9 / 1120);
  });
});

describe('the bound of a prompt', () => {
  it('counts matmuls at the 8-bit peak, attention at the f32 peak', () => {
    const roofline = { readGBps: 1, int8GOPs: 1, f32GFLOPs: 0.5 };
    const seconds = (2 * 100 + 50) / 1e9 + (10 * (1 + 2 + 1 + 2)) / 0.5e9;
    expect(prefillBound(demands, { phase: 'prefill', tokens: 2, context: 0 }, roofline)).toBeCloseTo(2 / seconds);
  });
});

describe('the goals', () => {
  it('are those of the path', () => {
    expect(speedGoal('Q4_1', decode128, 'avx512')).toBe(2);
    expect(speedGoal('Q4_1', decode128, 'avx2')).toBe(1.7);
    expect(speedGoal('Q8_0', prefill512, 'avx2')).toBe(0.9);
    expect(speedGoal('Q4_1', prefill4096, 'avx2')).toBe(2);
  });

  it('are not stated for other paths, types and contexts', () => {
    expect(speedGoal('Q4_1', decode128, 'neon')).toBeUndefined();
    expect(speedGoal('F16', decode128, 'avx512')).toBeUndefined();
    expect(speedGoal('Q4_1', { ...decode128, context: 1024 }, 'avx512')).toBeUndefined();
  });
});

describe('the contexts', () => {
  it('leave room at the end of what the model was trained for', () => {
    expect(contextTests([], 8192).map(({ context }) => context)).toEqual([128, 1024, 4096, 8128]);
    expect(contextTests([], 32768).map(({ context }) => context)).toEqual([128, 1024, 4096, 8192]);
  });

  it('are each measured once', () => {
    expect(contextTests([], 2048).map(({ context }) => context)).toEqual([128, 1024, 1984]);
  });

  it('fit into the text and the model', () => {
    for (const test of contextTests([], 8192)) expect(textTokens(test) + test.tokens).toBeLessThanOrEqual(8192);
  });
});
