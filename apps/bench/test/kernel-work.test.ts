import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { kernelDemands, kernelWorkName, kernelWorks, layerCount } from '../src/kernels/kernel-work.js';
import { chosenWorks, kernelBound } from '../src/kernels/peer-records.js';

const attention = { kind: 'attention', heads: 4, kvHeads: 2, headDim: 8 } as const;

describe('a kernel work', () => {
  it('has a name of its own', () => {
    const names = kernelWorks.map(kernelWorkName);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toContain('matmul, 4 bits × 8 bits, [16, 576] → 1536 → 576');
  });

  it('reads every weight once, and its inputs', () => {
    const { bytes, operations } = kernelDemands({ kind: 'matmul', tokens: 2, sizes: [64, 32] }, 0.5);
    expect(bytes).toBe((64 * 32) / 2 + 4 * 2 * (64 + 32));
    expect(operations).toBe(2 * 2 * 64 * 32);
  });

  it('does what a causal query sees, whichever keys were there before', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 0, max: 12 }), (queries, before) => {
        let visible = 0;
        for (let query = 0; query < queries; query++) visible += before + query + 1;
        const { operations } = kernelDemands({ ...attention, queries, keys: before + queries }, 4);
        expect(operations).toBe(4 * 4 * 8 * visible);
      }),
    );
  });

  it('runs in whole circles', () => {
    for (const work of kernelWorks) expect(layerCount(work, 0.5) % (work.kind === 'matmul' ? work.sizes.length : 1)).toBe(0);
  });
});

describe('the bound of a kernel', () => {
  const roofline = { readGBps: 1, f32GFLOPs: 10, int8GOPs: 100 };

  it('is memory for one token and arithmetic for many', () => {
    const matmul = (tokens: number) => kernelBound({ kind: 'matmul', tokens, sizes: [1024] }, 'Q4_0', roofline);
    expect(matmul(1)).toBeCloseTo((1024 * 1024 * 18) / 32 / 1e6 + 8192 / 1e6);
    expect(matmul(4096)).toBeCloseTo((2 * 4096 * 1024 * 1024) / 100 / 1e6);
  });
});

describe('the works chosen', () => {
  it('are all, or those of a type or a context', () => {
    expect(chosenWorks({ types: [], contexts: [] })).toEqual(kernelWorks);
    expect(chosenWorks({ types: ['Q4_0'], contexts: [] }).every(({ kind }) => kind === 'matmul')).toBe(true);
    expect(chosenWorks({ types: ['F16'], contexts: [2048] })).toHaveLength(1);
    expect(chosenWorks({ types: ['Q6_K'], contexts: [] })).toEqual([]);
  });
});
