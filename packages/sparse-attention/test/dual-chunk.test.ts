import { createReferenceBackend, ExecutionError, scope } from '@filigree/core-tensor';
import { attendByPolicy, dualChunkMethod, type DualChunkOptions } from '@filigree/sparse-attention';
import { firstDifference } from '@filigree/testing';
import { afterAll, describe, expect, it } from 'vitest';
import { disposeContext } from './support/context.js';
import { chunkScores, contextWithRotation, dim, softmaxOf } from './support/dual-chunk.js';
import { span } from './support/mask-keys.js';
import { planted, type PlantedPrompt } from './support/planted.js';

const backend = createReferenceBackend();
afterAll(() => {
  backend.dispose();
});

/** Attention with positions of chunks, from the definition; o of the queries from `from` on, [heads, queries, dim]. */
function expected(prompt: PlantedPrompt, from: number, options: DualChunkOptions): Float64Array {
  const { v, heads, kvHeads, length } = prompt;
  const o: number[] = [];
  for (let head = 0; head < heads; head++) {
    const first = Math.floor(head / (heads / kvHeads)) * length;
    for (let p = from; p < length; p++) {
      const weights = softmaxOf(chunkScores(prompt, options, { head, p }));
      for (const channel of span(0, dim))
        o.push(weights.reduce((total, weight, j) => total + weight * v[(first + j) * dim + channel], 0));
    }
  }
  return Float64Array.from(o);
}

describe('dual chunk attention', () => {
  const prompt = planted({ seed: 1, length: 150, heads: 2, dim, noise: 1.2 });

  it.each([
    ['a prompt of many chunks', { chunkSize: 32, localSize: 8 }, 0, {}],
    ['chunks that row blocks do not fit', { chunkSize: 40, localSize: 9 }, 0, { pageSize: 16 }],
    ['a part of the prompt', { chunkSize: 32, localSize: 16 }, 70, { from: [70], pageSize: 16 }],
    ['a token', { chunkSize: 64, localSize: 16 }, 149, { from: [149], decode: true }],
    ['scores that grow', { chunkSize: 32, localSize: 8, originalMax: 50 }, 0, {}],
  ] as const)('is its definition for %s', async (_name, options, from, step) => {
    const context = contextWithRotation(backend, prompt, { ...step, from: [from] });
    const result = scope(() => attendByPolicy(context, dualChunkMethod.create(options)));
    const o = expected(prompt, from, { originalMax: 0, ...options });
    expect(firstDifference(await result.o.readNumbers(), o, { absolute: 1e-4, relative: 1e-4 })).toBeUndefined();
    disposeContext(context);
  });

  it('is plain attention for a prompt of one chunk', () => {
    const context = contextWithRotation(backend, prompt, {});
    const policy = dualChunkMethod.create({ chunkSize: 151, localSize: 1 });
    expect(policy.kind === 'selector' && policy.selector.select(context, undefined)).toBe('dense');
    disposeContext(context);
  });

  it('says that it needs lengths, and fails without', () => {
    const context = { ...contextWithRotation(backend, prompt, {}), lenK: undefined };
    const policy = dualChunkMethod.create();
    expect(policy.kind === 'selector' && policy.selector.needsLengths).toBe(true);
    expect(() => attendByPolicy(context, policy)).toThrow(ExecutionError);
    disposeContext(context);
  });

  it('refuses chunks without positions', () => {
    expect(() => dualChunkMethod.create({ chunkSize: 16, localSize: 16 })).toThrow('localSize is 16');
  });
});
