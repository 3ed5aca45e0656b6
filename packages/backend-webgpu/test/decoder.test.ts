import {
  add,
  argMax,
  createReferenceBackend,
  fromArray,
  gatedActivation,
  reshape,
  rmsNorm,
  rope,
  ropeFrequencies,
  scope,
  seededTensor,
  type Backend,
  type Tensor,
} from '@filigree/core-tensor';
import { KvCache } from '@filigree/kv-cache';
import { dequantizeRows, ggufLayout, matmulOp, seededBlocks } from '@filigree/quantization';
import { attention, lowerMask, plannedAttention, planTensor, streaming } from '@filigree/sparse-attention';
import { firstDifference } from '@filigree/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { WebGpuBackend } from '@filigree/backend-webgpu';
import { testBackend } from './device.js';

const [layers, heads, kvHeads, dim, hidden, vocabulary] = [2, 4, 2, 16, 64, 90];

/** A small random decoder with quantised weights: what a model does to a backend, step after step. */
class Decoder {
  readonly #weights = new Map<string, { blocks: Tensor; type: number; outFeatures: number; inFeatures: number }>();
  readonly #norm: Tensor;
  readonly #frequencies: Tensor;

  constructor(readonly backend: Backend) {
    const shapes = { q: [64, 64], k: [32, 64], v: [32, 64], o: [64, 64], gate: [96, 64], up: [96, 64], down: [64, 96] };
    for (let layer = 0; layer < layers; layer++)
      for (const [index, [name, [out, input]]] of Object.entries(shapes).entries())
        this.#add(`${name}${layer}`, ['Q4_0', 'Q4_1', 'Q8_0', 'Q5_0'][(index + layer) % 4], out, input);
    this.#add('embedding', 'Q8_0', vocabulary, hidden);
    this.#norm = fromArray(backend, new Float32Array(hidden).fill(1), [hidden]);
    const { inverseFrequencies } = ropeFrequencies({ base: 10_000, dims: dim });
    this.#frequencies = fromArray(backend, inverseFrequencies, [dim / 2]);
  }

  cache(): KvCache {
    const spec = { kHeads: kvHeads, vHeads: kvHeads, kDim: dim, vDim: dim };
    return new KvCache(this.backend, { layers: [spec, spec], capacity: 96, pageSize: 4, dtype: 'f16' });
  }

  /** Logits of the last token. */
  step(cache: KvCache, tokens: readonly number[], window?: number): Tensor {
    return scope(() => {
      const start = cache.length();
      const count = tokens.length;
      const ids = fromArray(this.backend, tokens, [count], 'i32');
      const positions = fromArray(
        this.backend,
        tokens.map((_, index) => start + index),
        [count],
        'i32',
      );
      const embedding = this.#weight('embedding');
      let x = dequantizeRows(embedding.blocks, ids, 'Q8_0', hidden);
      for (let layer = 0; layer < layers; layer++) {
        const h = rmsNorm(x, this.#norm);
        const turn = (y: Tensor, rows: number): Tensor => rope(reshape(y, [count, rows, dim]), positions, this.#frequencies);
        const k = turn(this.#apply(`k${layer}`, h), kvHeads);
        cache.append(layer, { k, v: reshape(this.#apply(`v${layer}`, h), [count, kvHeads, dim]) });
        const q = reshape(turn(this.#apply(`q${layer}`, h), heads), [1, count, heads, dim]);
        const o = this.#attend(q, cache, layer, start + count, window);
        x = this.#apply(`o${layer}`, reshape(o, [count, heads * dim]), x);
        const g = rmsNorm(x, this.#norm);
        x = this.#apply(`down${layer}`, gatedActivation(this.#apply(`gate${layer}`, g), this.#apply(`up${layer}`, g)), x);
      }
      const last = x.view([1, hidden], (count - 1) * hidden);
      return this.#apply('embedding', rmsNorm(add(last, last), this.#norm));
    });
  }

  #attend(q: Tensor, cache: KvCache, layer: number, length: number, window: number | undefined): Tensor {
    const { k, v, table } = cache.view(layer);
    if (window === undefined) return attention(q, k, v, { table, lengthK: length, queryLayout: 'blhd' }).o;
    const mask = streaming({ sinks: 2, window })({ batch: 1, heads, lenQ: [q.shape[1]], lenK: [length] });
    return plannedAttention(q, k, v, planTensor(this.backend, lowerMask(mask)), { table, queryLayout: 'blhd' }).o;
  }

  #add(name: string, type: string, outFeatures: number, inFeatures: number): void {
    const { id } = ggufLayout(type);
    const { data, shape } = seededBlocks(this.#weights.size, id, outFeatures, inFeatures);
    this.#weights.set(name, { blocks: fromArray(this.backend, data, shape, 'u8'), type: id, outFeatures, inFeatures });
  }

  #weight(name: string): { blocks: Tensor; type: number; outFeatures: number; inFeatures: number } {
    const found = this.#weights.get(name);
    if (!found) throw new Error(`no weight ${name}`);
    return found;
  }

  #apply(name: string, x: Tensor, residual?: Tensor): Tensor {
    const { blocks, ...attributes } = this.#weight(name);
    // Not quantised: where two roundings of x differ by one step, a comparison would measure that step.
    return matmulOp({ x, weights: blocks, residual }, { ...attributes, activations: 'none' }).y;
  }
}

describe('a decoder on WebGPU', () => {
  let backend: WebGpuBackend;
  let gpu: Decoder;
  const reference = new Decoder(createReferenceBackend());

  beforeAll(async () => {
    backend = await testBackend();
    gpu = new Decoder(backend);
  });

  afterAll(() => {
    backend.dispose();
  });

  it('gives the logits of the reference over a prompt, single tokens, a fork and a truncation', async () => {
    const steps = async (decoder: Decoder): Promise<Float32Array> => {
      const logits: number[] = [];
      const run = async (cache: KvCache, tokens: readonly number[], window?: number): Promise<void> => {
        const result = decoder.step(cache, tokens, window);
        logits.push(...(await result.readNumbers()));
        result.dispose();
        await decoder.backend.ready();
      };
      const cache = decoder.cache();
      await run(
        cache,
        Array.from({ length: 19 }, (_, index) => (index * 7) % vocabulary),
      );
      await run(cache, [3]);
      const fork = cache.fork();
      await run(fork, [5, 6]);
      await run(cache, [8]);
      await run(fork, [9], 6);
      cache.truncate(10);
      await run(
        cache,
        Array.from({ length: 12 }, (_, index) => index),
        5,
      );
      fork.dispose();
      cache.dispose();
      return Float32Array.from(logits);
    };
    const before = backend.memory();
    const [actual, expected] = [await steps(gpu), await steps(reference)];
    expect(actual).toHaveLength(6 * vocabulary);
    expect(Math.max(...expected) - Math.min(...expected)).toBeGreaterThan(1);
    // Keys and values are halves: the two backends may round one of them apart.
    expect(firstDifference(actual, expected, { absolute: 2e-3, relative: 2e-3 })).toBeUndefined();
    await backend.sync();
    expect(backend.memory()).toMatchObject({ liveBytes: before.liveBytes, buffers: before.buffers });
  });

  it('chooses the token of the reference', async () => {
    const choose = async (decoder: Decoder): Promise<number> => {
      const cache = decoder.cache();
      const [chosen] = await argMax(decoder.step(cache, [1, 2, 3, 4])).readNumbers();
      cache.dispose();
      return chosen;
    };
    expect(await choose(gpu)).toBe(await choose(reference));
  });

  it('does 64 steps in a row without growing', async () => {
    const cache = gpu.cache();
    const sizes: number[] = [];
    const { data } = seededTensor(1, [64], { dtype: 'i32', low: 0, high: vocabulary - 1 });
    for (const token of data) {
      gpu.step(cache, [token]).dispose();
      await backend.ready();
      const { liveBytes, pooledBytes } = backend.memory();
      sizes.push(liveBytes + pooledBytes);
    }
    await backend.sync();
    expect(sizes[63]).toBeLessThanOrEqual(2 * sizes[8]);
    cache.dispose();
  });
});
