import {
  createReferenceBackend,
  ExecutionError,
  fromArray,
  permute,
  reshape,
  ropeOp,
  scope,
  type Tensor,
} from '@filigree/core-tensor';
import { attendByPolicy, dualChunkMethod, type SelectContext } from '@filigree/sparse-attention';
import { firstDifference } from '@filigree/testing';
import { afterAll, describe, expect, it } from 'vitest';
import { contextOf, disposeContext, type ContextOptions } from './support/context.js';
import { span } from './support/mask-keys.js';
import { planted, type PlantedPrompt } from './support/planted.js';

const backend = createReferenceBackend();
afterAll(() => {
  backend.dispose();
});

const dim = 16;
const frequencies = span(0, dim / 2).map((pair) => 100 ** (-pair / (dim / 2)));

/** A row turned to a position. */
function turned(row: Float32Array, position: number): Float32Array {
  const out = Float32Array.from(row);
  for (const [pair, frequency] of frequencies.entries()) {
    const [a, b] = [row[pair], row[pair + dim / 2]];
    const [cosine, sine] = [Math.cos(position * frequency), Math.sin(position * frequency)];
    out[pair] = a * cosine - b * sine;
    out[pair + dim / 2] = b * cosine + a * sine;
  }
  return out;
}

const row = (rows: Float32Array, index: number): Float32Array => rows.subarray(index * dim, (index + 1) * dim);

/** The prompt as it lies in a cache: queries and keys turned to their own positions. */
function cached(prompt: PlantedPrompt): PlantedPrompt {
  const all = (rows: Float32Array): Float32Array => {
    const out = new Float32Array(rows.length);
    for (let index = 0; index < rows.length / dim; index++)
      out.set(turned(row(rows, index), index % prompt.length), index * dim);
    return out;
  };
  return { ...prompt, q: all(prompt.q), k: all(prompt.k) };
}

function contextWithRotation(prompt: PlantedPrompt, options: ContextOptions): SelectContext {
  const context = contextOf(backend, [cached(prompt)], options);
  const inverseFrequencies = fromArray(backend, frequencies, [dim / 2]);
  const rotate = (q: Tensor, by: Tensor): Tensor => {
    const bhld = context.queryLayout === 'bhld';
    const rows = bhld ? permute(q, [0, 2, 1, 3]) : q;
    const y = ropeOp({ x: reshape(rows, rows.shape.slice(1)), positions: by, inverseFrequencies }, {}).y;
    return bhld ? permute(reshape(y, rows.shape), [0, 2, 1, 3]) : reshape(y, rows.shape);
  };
  return { ...context, rotate };
}

/** Attention with positions of chunks, from the definition; o of the queries from `from` on, [heads, queries, dim]. */
function expected(
  prompt: PlantedPrompt,
  from: number,
  chunkSize: number,
  localSize: number,
  originalMax: number,
): Float64Array {
  const { q, k, v, heads, kvHeads, length } = prompt;
  const chunk = chunkSize - localSize;
  const o: number[] = [];
  for (let head = 0; head < heads; head++) {
    const first = Math.floor(head / (heads / kvHeads)) * length;
    for (let p = from; p < length; p++) {
      const growth = originalMax === 0 ? 1 : Math.max(1, 0.1 * Math.log((p + 1) / originalMax) + 1);
      const scores = span(0, p + 1).map((j) => {
        const apart = Math.floor(p / chunk) - Math.floor(j / chunk);
        const near = apart === 0 ? p % chunk : Math.min((p % chunk) + chunk, chunkSize);
        const query = turned(row(q, head * length + p), apart > 1 ? chunkSize : near);
        const key = turned(row(k, first + j), j % chunk);
        return (growth * query.reduce((sum, value, channel) => sum + value * key[channel], 0)) / Math.sqrt(dim);
      });
      const largest = Math.max(...scores);
      const weights = scores.map((score) => Math.exp(score - largest));
      const sum = weights.reduce((a, b) => a + b, 0);
      for (const channel of span(0, dim))
        o.push(weights.reduce((total, weight, j) => total + weight * v[(first + j) * dim + channel], 0) / sum);
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
    const context = contextWithRotation(prompt, { ...step, from: [from] });
    const result = scope(() => attendByPolicy(context, dualChunkMethod.create(options)));
    const { chunkSize, localSize, originalMax = 0 } = { originalMax: 0, ...options };
    const o = expected(prompt, from, chunkSize, localSize, originalMax);
    expect(firstDifference(await result.o.readNumbers(), o, { absolute: 1e-4, relative: 1e-4 })).toBeUndefined();
    disposeContext(context);
  });

  it('is plain attention for a prompt of one chunk', () => {
    const context = contextWithRotation(prompt, {});
    const policy = dualChunkMethod.create({ chunkSize: 151, localSize: 1 });
    expect(policy.kind === 'selector' && policy.selector.select(context, undefined)).toBe('dense');
    disposeContext(context);
  });

  it('says that it needs lengths, and fails without', () => {
    const context = { ...contextWithRotation(prompt, {}), lenK: undefined };
    const policy = dualChunkMethod.create();
    expect(policy.kind === 'selector' && policy.selector.needsLengths).toBe(true);
    expect(() => attendByPolicy(context, policy)).toThrow(ExecutionError);
    disposeContext(context);
  });

  it('refuses chunks without positions', () => {
    expect(() => dualChunkMethod.create({ chunkSize: 16, localSize: 16 })).toThrow('localSize is 16');
  });
});
