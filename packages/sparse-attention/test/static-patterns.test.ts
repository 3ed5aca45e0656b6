import { createReferenceBackend, fromArray, OptionError, Random } from '@filigree/core-tensor';
import {
  attention,
  bigBird,
  dilated,
  fixedSparse,
  longformer,
  lowerMask,
  plannedAttention,
  planTensor,
  residueSplit,
  stridedSparse,
} from '@filigree/sparse-attention';
import { firstDifference } from '@filigree/testing';
import { afterAll, describe, expect, it } from 'vitest';
import { keysOf, patternKeys, reachesAll, span } from './support/mask-keys.js';

const backend = createReferenceBackend();
afterAll(() => {
  backend.dispose();
});

describe('dilated window', () => {
  it('sees every dilation-th key, as many as the window has', () => {
    const [keys] = patternKeys(dilated({ window: 4, dilation: 5 }), 40);
    expect(keys[39]).toEqual([24, 29, 34, 39]);
    expect(keys[7]).toEqual([2, 7]);
  });

  it('is residueSplit when the window has no end', async () => {
    const random = new Random(3);
    const [q, k, v] = [4, 2, 2].map((heads) =>
      fromArray(
        backend,
        Float32Array.from({ length: heads * 48 * 8 }, () => random.nextNormal()),
        [1, heads, 48, 8],
      ),
    );
    const shape = { batch: 1, heads: 4, lenQ: [48], lenK: [48] };
    for (const dilation of [1, 3, 4]) {
      const plan = planTensor(backend, lowerMask(dilated({ window: 48, dilation })(shape)));
      const [masked, split] = [plannedAttention(q, k, v, plan), residueSplit(q, k, v, dilation)];
      for (const name of ['o', 'lse'] as const) {
        const [actual, expected] = [await split[name].readNumbers(), await masked[name].readNumbers()];
        expect(firstDifference(actual, expected, { absolute: 2e-5, relative: 2e-5 })).toBeUndefined();
      }
    }
    expect(() => residueSplit(q, k, v, 5)).toThrow('residueSplit: 48 tokens are not dealt out to 5 sequences evenly');
  });
});

describe('Sparse Transformer', () => {
  it('strided: sees the last l keys and every l-th before', () => {
    const [keys] = patternKeys(stridedSparse({ stride: 6, split: 'union' }), 40);
    expect(keys[33]).toEqual([3, 9, 15, 21, 27, 28, 29, 30, 31, 32, 33]);
  });

  it('strided: reaches every earlier token in two layers, also when heads have one part each', () => {
    for (const length of [30, 49]) {
      const [local, strided] = patternKeys(stridedSparse({ stride: 7, split: 'byHead' }), length, 2);
      expect(reachesAll([strided, local])).toBe(true);
      expect(reachesAll([local, local])).toBe(false);
      const [union] = patternKeys(stridedSparse({ stride: 7, split: 'union' }), length);
      expect(union).toEqual(local.map((keys, query) => [...new Set([...keys, ...strided[query]])].sort((a, b) => a - b)));
    }
  });

  it('fixed: sees its block and the last tokens of earlier ones', () => {
    const [keys] = patternKeys(fixedSparse({ stride: 8, expressivity: 2 }), 40);
    expect(keys[20]).toEqual([6, 7, 14, 15, 16, 17, 18, 19, 20]);
    expect(reachesAll([keys, keys])).toBe(true);
  });

  it('refuses options out of range', () => {
    expect(() => stridedSparse({ stride: 0, split: 'union' })).toThrow(OptionError);
    expect(() => fixedSparse({ stride: 4, expressivity: 5 })).toThrow('expressivity is 5, a block has 4 tokens');
  });
});

describe('BigBird', () => {
  const options = { block: 4, random: 2, window: 3, global: 1, seed: 5 };

  it('is the same for the same seed, at any length', () => {
    const [keys] = patternKeys(bigBird(options), 96);
    expect(patternKeys(bigBird(options), 96)[0]).toEqual(keys);
    expect(patternKeys(bigBird(options), 60)[0]).toEqual(keys.slice(0, 60));
    expect(patternKeys(bigBird({ ...options, seed: 6 }), 96)[0]).not.toEqual(keys);
  });

  it('has as many blocks as it says, distinct ones', () => {
    const [keys] = patternKeys(bigBird(options), 96);
    for (const [query, seen] of keys.entries()) {
      const own = Math.floor(query / 4);
      const blocks = [...new Set(seen.map((key) => Math.floor(key / 4)))];
      expect(blocks).toHaveLength(Math.min(own + 1, 1 + 2 + 2));
      expect(blocks).toEqual(expect.arrayContaining(span(Math.max(0, own - 1), own + 1)));
      expect(seen).toHaveLength(4 * (blocks.length - 1) + (query % 4) + 1);
    }
  });

  it('shows global blocks everything and everyone global blocks, in an encoder', () => {
    const shape = { batch: 1, heads: 1, lenQ: [64], lenK: [64] };
    const [keys] = keysOf(bigBird({ ...options, causal: false })(shape));
    for (const query of [0, 3]) expect(keys[query]).toEqual(span(0, 64));
    for (const query of [4, 30, 63]) expect(keys[query]).toEqual(expect.arrayContaining(span(0, 4)));
    expect(keys[30]).toEqual(expect.arrayContaining(span(24, 36)));
    expect(keys[30]).toHaveLength(4 * (1 + 3 + 2));
  });
});

describe('Longformer', () => {
  it('is dense when all tokens are global', () => {
    const [keys] = patternKeys(longformer({ window: 1, globalTokens: span(0, 30) }), 30);
    expect(keys).toEqual(keys.map((_, query) => span(0, query + 1)));
  });

  it('leaves the window of other rows as it is', () => {
    const [alone] = patternKeys(longformer({ window: 6, globalTokens: [] }), 50);
    const [keys] = patternKeys(longformer({ window: 6, globalTokens: [3, 20] }), 50);
    expect(alone[40]).toEqual(span(35, 41));
    for (const query of [2, 19, 33]) {
      const columns = [3, 20].filter((token) => token <= query);
      expect(keys[query]).toEqual([...new Set([...columns, ...alone[query]])].sort((a, b) => a - b));
    }
    expect(keys[20]).toEqual(span(0, 21));
  });

  it('has a window on both sides in an encoder', () => {
    const shape = { batch: 1, heads: 1, lenQ: [30], lenK: [30] };
    const [keys] = keysOf(longformer({ window: 3, globalTokens: [], dilation: 2, causal: false })(shape));
    expect(keys[10]).toEqual([6, 8, 10, 12, 14]);
    expect(keys[29]).toEqual([25, 27, 29]);
  });
});

describe('residueSplit', () => {
  it('is attention for one sequence', async () => {
    const random = new Random(4);
    const x = fromArray(
      backend,
      Float32Array.from({ length: 2 * 20 * 4 }, () => random.nextNormal()),
      [1, 2, 20, 4],
    );
    expect(await residueSplit(x, x, x, 1).o.readNumbers()).toEqual(await attention(x, x, x).o.readNumbers());
  });
});
