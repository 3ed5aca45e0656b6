import { AbortError, reshape, type Backend, type Tensor } from '@filigree/core-tensor';
import { kvZip, StreamCache, type Compressor, type Kept, type LayerScores } from '@filigree/kv-cache';
import type { Model } from '@filigree/transformer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { repeatedPrefill } from '../src/kv/repeated-prefill.js';
import { backends, loadTiny } from './support/tiny.js';

const prompt = Array.from({ length: 90 }, (_, index) => (index * 37) % 200);
const options = { budget: 30, chunk: 50, overlap: 3, sinks: 2, layerwise: false };
/** Ids of the instructions, of different lengths. */
const instructions = { first: [7, 8, 9], later: [11, 12, 13, 14] };
const tokenize = (text: string): readonly number[] =>
  text.includes('starting with') ? instructions.later : instructions.first;

interface Activations {
  /** Per layer, [T, heads, D] and [T, kvHeads, D]. */
  readonly q: Float32Array[];
  readonly k: Float32Array[];
}

async function activations(model: Model, tokens: readonly number[]): Promise<Activations> {
  const found: Record<string, Tensor> = {};
  const names = Array.from({ length: model.config.layers }, (_, layer) => [
    `layers.${layer}.attention.query`,
    `layers.${layer}.attention.key`,
  ]).flat();
  const hook = (name: string) => (x: Tensor) => {
    found[name] = reshape(x, x.shape);
  };
  (await model.run(tokens, { read: Object.fromEntries(names.map((name) => [name, hook(name)])) })).dispose();
  const numbers = await Promise.all(names.map(async (name) => Float32Array.from(await found[name].readNumbers())));
  for (const tensor of Object.values(found)) tensor.dispose();
  return { q: numbers.filter((_, index) => index % 2 === 0), k: numbers.filter((_, index) => index % 2 === 1) };
}

/** What entries of a span are attended to at most, by every query of what repeats it. */
function eagerScores(model: Model, { q, k }: Activations, layer: number, [start, end]: readonly [number, number]): number[][] {
  const { heads, kvHeads, headDim, attentionScale } = model.config;
  const total = k[layer].length / (kvHeads * headDim);
  const scores = Array.from({ length: kvHeads }, () => new Array<number>(end - start).fill(0));
  for (let query = prompt.length; query < total; query++) {
    const seen = Array.from({ length: query + 1 }, (_, entry) => entry).filter(
      (entry) => entry < Math.min(options.sinks, start) || (entry >= start && entry < end) || entry >= prompt.length,
    );
    for (let head = 0; head < heads; head++) {
      const kvHead = Math.floor(head / (heads / kvHeads));
      const exps = seen.map((entry) => {
        let dot = 0;
        for (let channel = 0; channel < headDim; channel++)
          dot +=
            q[layer][(query * heads + head) * headDim + channel] * k[layer][(entry * kvHeads + kvHead) * headDim + channel];
        return Math.exp(dot * attentionScale);
      });
      const sum = exps.reduce((a, b) => a + b, 0);
      for (const [index, entry] of seen.entries())
        if (entry >= start && entry < end)
          scores[kvHead][entry - start] = Math.max(scores[kvHead][entry - start], exps[index] / sum);
    }
  }
  return scores;
}

for (const [name, create] of backends) {
  describe(`a prompt that is repeated on ${name}`, () => {
    let backend: Backend;
    let model: Model;

    beforeAll(async () => {
      backend = create();
      model = await loadTiny({ backend, kvType: 'f32', activations: 'none' });
    });

    afterAll(() => {
      model.dispose();
      backend.dispose();
    });

    /** A prompt read in steps of `chunk`, and what was scored and kept. */
    async function repeated(
      chunk: number,
    ): Promise<{ scores: readonly LayerScores[]; kept: readonly Kept[]; cache: StreamCache }> {
      const { layers, kvHeads, headDim } = model.config;
      const zip = kvZip(options);
      const session = model.session(1);
      const cache = new StreamCache(backend, {
        layers,
        kvHeads,
        kDim: headDim,
        vDim: headDim,
        capacity: 100_000,
        dtype: 'f32',
      });
      let [scores, kept]: [readonly LayerScores[], readonly Kept[]] = [[], []];
      const repeat = {
        ...zip.repeat,
        choose: (found: readonly LayerScores[], length: number) => {
          scores = found;
          return (kept = zip.repeat.choose(found, length));
        },
      };
      const { decoder } = session;
      const parts = { decoder, cache, compressor: zip, repeat, tokens: prompt, chunk, signal: undefined, tokenize };
      (await repeatedPrefill(parts)).dispose();
      session.dispose();
      return { scores, kept, cache };
    }

    it.each([512, 17])('scores the attention of repeating it, in steps of %s tokens', async (chunk) => {
      const { scores, cache } = await repeated(chunk);
      cache.dispose();
      const passes = [
        { span: [0, 50] as const, tokens: [...instructions.first, ...prompt.slice(0, 50)] },
        { span: [50, 90] as const, tokens: [...instructions.later, ...prompt.slice(47, 90)] },
      ];
      for (const { span, tokens } of passes) {
        const seen = await activations(model, [...prompt, ...tokens]);
        for (const { layer, rows } of scores) {
          const expected = eagerScores(model, seen, layer, span);
          for (const [head, row] of rows.entries())
            for (const [index, score] of expected[head].entries()) {
              expect(Math.abs(row[span[0] + index] - score)).toBeLessThan(1e-4);
              expect(row[span[0] + index]).toBeGreaterThanOrEqual(0);
              expect(row[span[0] + index]).toBeLessThanOrEqual(1 + 1e-6);
            }
        }
      }
    });

    it('keeps entries as reading the prompt left them', async () => {
      const { kept, cache } = await repeated(512);
      const { kvHeads, headDim, layers } = model.config;
      const { k } = await activations(model, prompt);
      expect(kept.flat().reduce((sum, ids) => sum + ids.length, 0)).toBe(layers * kvHeads * options.budget);
      for (const [layer, lists] of kept.entries()) {
        const { k: pages, table, lengths } = cache.view(layer);
        const [stored, numbers] = [await pages.readNumbers(), (await table?.readNumbers()) ?? []];
        const width = table?.shape[1] ?? 0;
        expect(lengths).toEqual(lists.map((ids) => ids.length));
        for (const [head, ids] of lists.entries()) {
          expect(Array.from(cache.positions(layer, head))).toEqual(Array.from(ids));
          for (const [index, id] of ids.entries()) {
            const slot = numbers[head * width + Math.floor(index / 64)] * 64 + (index % 64);
            const at = (id * kvHeads + head) * headDim;
            const row = Array.from(stored.slice(slot * headDim, (slot + 1) * headDim));
            const expected = Array.from(k[layer].subarray(at, at + headDim));
            expect(Math.max(...row.map((value, channel) => Math.abs(value - expected[channel])))).toBeLessThan(1e-5);
          }
        }
      }
      expect(cache.positionsEnd).toBe(prompt.length);
      cache.dispose();
    });

    it('gives everything back after a choice that fails, and after an abort', async () => {
      const before = backend.memory().liveBytes;
      const zip = kvZip(options);
      const fail = (): never => {
        throw new RangeError('no choice');
      };
      const broken: Compressor = { ...zip, repeat: { ...zip.repeat, choose: fail } };
      await expect(model.prefill(prompt, { kv: broken })).rejects.toThrow('no choice');
      expect(backend.memory().liveBytes).toBe(before);
      const controller = new AbortController();
      const { signal } = controller;
      const running = model.prefill(prompt, {
        kv: zip,
        signal,
        prefillChunk: 16,
        onPrefill: () => {
          controller.abort();
        },
      });
      await expect(running).rejects.toThrow(AbortError);
      expect(backend.memory().liveBytes).toBe(before);
      const prefix = await model.prefill(prompt, { kv: zip });
      prefix.dispose();
      expect(backend.memory().liveBytes).toBe(before);
    });
  });
}
