import { createReferenceBackend } from '@filigree/core-tensor';
import { attentionMethods } from '@filigree/sparse-attention';
import { describe, expect, it } from 'vitest';
import { planted, type MethodRun, type PlantedResult } from '../src/index.js';

const backend = createReferenceBackend();
const at = (method: MethodRun, length = 320): Promise<PlantedResult> =>
  planted({ backend, method, kind: 'easy', length, seed: 3, sample: 0, runs: 1 });

describe('planted attention', () => {
  it('is kept whole by a window of everything', async () => {
    const result = await at({ id: 'sliding-window', options: { window: 4096 } });
    expect(result.evidenceKept).toBeCloseTo(1, 5);
    expect(result.massKept).toBeCloseTo(1, 5);
    expect(result.outputError).toBeLessThan(1e-5);
    expect(result.density).toBeCloseTo(1, 12);
  });

  it('loses its evidence to a window that ends before it', async () => {
    const result = await at({ id: 'sliding-window', options: { window: 16 } });
    expect(result.evidenceKept).toBeLessThan(1e-3);
    expect(result.outputError).toBeGreaterThan(0.5);
    expect(result.density).toBeLessThan(0.2);
  });

  it('is one token for methods of decoding', async () => {
    const decoding = attentionMethods.find(({ id }) => id === 'quest');
    expect(decoding?.phase).toBe('decode');
    const result = await at({ id: 'quest', options: { tokenBudget: 64 } });
    expect(result.evidenceKept).toBeGreaterThan(0.9);
  });

  it('leaves no memory behind', async () => {
    const before = backend.memory().liveBytes;
    await at({ id: 'streaming-llm', options: {} });
    expect(backend.memory().liveBytes).toBe(before);
  });
});
