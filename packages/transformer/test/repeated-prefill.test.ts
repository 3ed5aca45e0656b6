import { AbortError, reshape, type Backend, type Tensor } from '@filigree/core-tensor';
import { kvZip, StreamCache, type Compressor, type Kept, type LayerScores } from '@filigree/kv-cache';
import type { Model } from '@filigree/transformer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { repeatedPrefill } from '../src/kv/repeated-prefill.js';
import { backends, loadTiny } from './support/tiny.js';

const prompt = Array.from({ length: 90 }, (_, index) => (index * 37) % 200);
const options = { budget: 30, chunk: 50, overlap: 3, sinks: 2, layerwise: false, plus: false };
/** Ids of the instructions, of different lengths. */
const instructions = { first: [7, 8, 9], later: [11, 12, 13, 14] };
const tokenize = (text: string): readonly number[] =>
  text.includes('starting with') ? instructions.later : instructions.first;

interface Activations {
  /** Per layer, [T, heads, D] and [T, kvHeads, D]. */
  readonly q: Float32Array[];
  readonly k: Float32Array[];
  readonly v: Float32Array[];
  /** Per layer, [T, hidden]. */
  readonly residual: Float32Array[];
}

async function activations(model: Model, tokens: readonly number[]): Promise<Activations> {
  const found: Record<string, Tensor> = {};
  const names = Array.from({ length: model.config.layers }, (_, layer) => [
    `layers.${layer}.attention.query`,
    `layers.${layer}.attention.key`,
    `layers.${layer}.attention.value`,
    `layers.${layer}.residual-in`,
  ]).flat();
  const hook = (name: string) => (x: Tensor) => {
    found[name] = reshape(x, x.shape);
  };
  (await model.run(tokens, { read: Object.fromEntries(names.map((name) => [name, hook(name)])) })).dispose();
  const numbers = await Promise.all(names.map(async (name) => Float32Array.from(await found[name].readNumbers())));
  for (const tensor of Object.values(found)) tensor.dispose();
  const [q, k, v, residual] = [0, 1, 2, 3].map((kind) => numbers.filter((_, index) => index % 4 === kind));
  return { q, k, v, residual };
}

/** What attention of a query head to an entry counts. */
type Weigh = (layer: number, at: { readonly query: number; readonly head: number; readonly entry: number }) => number;

/** |W_o · v| of the entry over the length of the normed hidden state of the query. */
async function outputWeights(model: Model, { v, residual }: Activations): Promise<Weigh> {
  const { layers, heads, kvHeads, headDim, hiddenSize, normEps } = model.config;
  const session = model.session(1);
  const { decoder } = session;
  const all = await Promise.all(
    Array.from({ length: layers }, async (_, layer) => {
      const weight = decoder.outputWeight(layer);
      const numbers = {
        output: await weight.readNumbers(),
        norm: await decoder.weights.layers[layer].attentionNorm.readNumbers(),
      };
      weight.dispose();
      return numbers;
    }),
  );
  session.dispose();
  return (layer, { query, head, entry }) => {
    const { output, norm } = all[layer];
    const value = v[layer].subarray((entry * kvHeads + Math.floor(head / (heads / kvHeads))) * headDim).subarray(0, headDim);
    const added = Array.from({ length: hiddenSize }, (_, to) =>
      value.reduce((sum, channel, from) => sum + channel * output[(head * headDim + from) * hiddenSize + to], 0),
    );
    const hidden = residual[layer].subarray(query * hiddenSize, (query + 1) * hiddenSize);
    const size = Math.sqrt(hidden.reduce((sum, channel) => sum + channel ** 2, 0) / hiddenSize + normEps);
    return Math.hypot(...added) / Math.hypot(...hidden.map((channel, index) => (channel * norm[index]) / size));
  };
}

/** What entries of a span are attended to at most, by every query of what repeats it. */
function eagerScores(
  model: Model,
  { q, k }: Activations,
  layer: number,
  [start, end]: readonly [number, number],
  weigh: Weigh = () => 1,
): number[][] {
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
          scores[kvHead][entry - start] = Math.max(
            scores[kvHead][entry - start],
            (exps[index] / sum) * weigh(layer, { query, head, entry }),
          );
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
      plus = false,
    ): Promise<{ scores: readonly LayerScores[]; kept: readonly Kept[]; cache: StreamCache }> {
      const { layers, kvHeads, headDim } = model.config;
      const zip = kvZip({ ...options, plus });
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

    it('scores what that attention does to the output, as KVzip+', async () => {
      const { scores, cache } = await repeated(512, true);
      cache.dispose();
      const seen = await activations(model, [...prompt, ...instructions.later, ...prompt.slice(47, 90)]);
      const weigh = await outputWeights(model, seen);
      for (const { layer, rows } of scores) {
        const expected = eagerScores(model, seen, layer, [50, 90], weigh);
        for (const [head, row] of rows.entries())
          for (const [index, score] of expected[head].entries())
            expect(Math.abs(row[50 + index] - score)).toBeLessThan(1e-3 * score);
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
      const zip = kvZip({ ...options, plus: true });
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
