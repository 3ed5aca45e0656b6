import { createNativeBackend } from '@filigree/backend-native';
import { blockTopKMethod } from '@filigree/sparse-attention';
import { afterAll, describe, expect, it } from 'vitest';
import { planted } from './support/planted.js';
import { recallOf } from './support/recall.js';
import { keysSeen } from './support/run.js';

const backend = createNativeBackend({ threads: 2, fallback: 'error' });
afterAll(() => {
  backend.dispose();
});

describe('MInference, block-sparse heads', () => {
  const blocks = [
    [2, 0],
    [3, 1],
    [4, 1],
    [5, 3],
    [6, 2],
    [7, 5],
  ] as const;
  const prompt = planted({ seed: 5, length: 256, dim: 64, plantings: [{ blocks, blockSize: 32 }] });

  it('sees a row block and the block of keys that it was planted to look at', async () => {
    const keys = await keysSeen(backend, blockTopKMethod.create({ block: 32, topK: 2 }), prompt);
    for (const [queryBlock, keyBlock] of blocks) {
      const position = 32 * queryBlock + 9;
      const wanted = Array.from({ length: 32 }, (_, index) => 32 * keyBlock + index);
      const own = Array.from({ length: 10 }, (_, index) => 32 * queryBlock + index);
      for (const head of keys) expect(head[position]).toEqual([...wanted, ...own]);
    }
  });

  it('holds nearly all attention of planted blocks', async () => {
    const keys = await keysSeen(backend, blockTopKMethod.create({ block: 32, topK: 2 }), prompt);
    const last = keys[1].slice(224);
    expect(recallOf(prompt, last, 1, 224)).toBeGreaterThan(0.95);
  });

  it('refuses blocks of nothing', () => {
    expect(() => blockTopKMethod.create({ block: 0 })).toThrow(/block/);
  });
});
