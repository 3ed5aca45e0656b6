import type { Backend } from '@filigree/core-tensor';
import {
  blockwise,
  critical,
  gatePlan,
  keyDiff,
  merging,
  perChunk,
  snapKv,
  snapKvDefaults,
  streamingHeads,
  type Compressor,
  type RawKvType,
} from '@filigree/kv-cache';
import type { Model } from '@filigree/transformer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { backends, loadTiny } from './support/tiny.js';

const context = Array.from({ length: 150 }, (_, index) => (index * 31) % 200);
const question = [5, 6, 7];
const votes = snapKv({ ...snapKvDefaults, budget: 40 });
const keys = keyDiff({ budget: 40, sinks: 2, recent: 4 });

describe.each(backends.flatMap(([name, create]) => (['f32', 'f16'] as const).map((type) => ({ name, create, type }))))(
  'compressors made of others on $name ($type)',
  ({ create, type }: { create: () => Backend; type: RawKvType }) => {
    let backend: Backend;
    let model: Model;

    beforeAll(async () => {
      backend = create();
      model = await loadTiny({ backend, kvType: type });
    });

    afterAll(() => {
      model.dispose();
      backend.dispose();
    });

    /** Logits after the question, and bytes of whole pages. */
    async function after(kv?: Compressor): Promise<{ logits: Float32Array; raw: number }> {
      const before = backend.memory().liveBytes;
      const prefix = await model.prefill(context, { kv });
      const logits = await prefix.logits(question);
      const found = { logits: Float32Array.from(await logits.readNumbers()), raw: prefix.bytes().raw };
      logits.dispose();
      prefix.dispose();
      expect(backend.memory().liveBytes).toBe(before);
      return found;
    }

    it('merging changes values, and nothing above every cosine', async () => {
      const inner = await after(votes);
      expect(await after(merging(votes, { threshold: 2 }))).toEqual(inner);
      const merged = await after(merging(votes));
      expect(merged.raw).toBe(inner.raw);
      expect(merged.logits).not.toEqual(inner.logits);
      expect(merged.logits.every(Number.isFinite)).toBe(true);
    });

    it('one block, one chunk and a first stage of all are the inner method', async () => {
      const inner = await after(keys);
      expect(await after(blockwise(keys, { block: 150 }))).toEqual(inner);
      expect(await after(perChunk(keys, { length: 150 }))).toEqual(inner);
      expect(await after(critical(votes, { eps: 1e-4, firstStage: 1 }))).toEqual(await after(votes));
    });

    it('retrieval heads keep all, streaming heads both ends', async () => {
      const { layers, heads, kvHeads, headDim } = model.config;
      const shape = { name: 'tiny', layers, heads, kvHeads };
      const gates = Array.from({ length: layers }, () => Float32Array.from({ length: kvHeads }, (_, head) => head));
      const compressor = (sparsity: number, compensate = false): Compressor =>
        streamingHeads(gatePlan(shape, gates, { sparsity }), { sinks: 4, recent: 16, compensate });
      const dense = await after();
      const whole = await after(compressor(0));
      for (const [index, logit] of whole.logits.entries()) expect(Math.abs(logit - dense.logits[index])).toBeLessThan(1e-3);
      const pageBytes = 64 * 2 * headDim * (type === 'f16' ? 2 : 4);
      const streaming = layers;
      const { raw } = await after(compressor(1 / kvHeads));
      const pages = 3 * (layers * kvHeads - streaming) + streaming;
      expect(raw / pageBytes).toBe(pages);
      // What stands for the others has a bias, and every page a place for one.
      const compensated = await after(compressor(1 / kvHeads, true));
      expect(compensated.raw / (pageBytes + 64 * 4)).toBe(pages);
      expect(compensated.logits.every(Number.isFinite)).toBe(true);
    });
  },
);
