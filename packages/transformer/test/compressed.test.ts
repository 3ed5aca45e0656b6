import { AbortError, fromArray, OptionError, type Backend } from '@filigree/core-tensor';
import { compressor, kvMethod, kvMethods, rerotate, type Compressor, type Kept } from '@filigree/kv-cache';
import { cellPattern, type MethodOptions, type Pattern } from '@filigree/sparse-attention';
import { generate, type KvChoice, type Model } from '@filigree/transformer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { planFor } from '../../kv-cache/test/support/kv-plan.js';
import { backends, loadTiny } from './support/tiny.js';

const context = Array.from({ length: 150 }, (_, index) => (index * 31) % 200);
const question = [5, 6, 7];
const options = { maxTokens: 8, ignoreEos: true };

/** Keeps what it is told to. */
function keeping(lists: Kept): Compressor {
  const entries = Math.max(...lists.map(({ length }) => length));
  return { id: 'given', queries: 0, queryAgnostic: true, budget: () => entries, compress: () => Promise.resolve(lists) };
}

/** A method that keeps `budget` entries per head; where heads keep what they are, all of them, or both ends. */
function choiceOf(model: Model, method: string, budget: number): KvChoice {
  const { layers, heads, kvHeads } = model.config;
  if (!kvMethod(method).planned) return { method, options: { budget } };
  const plan = planFor({ layers, heads, kvHeads });
  const whole = budget > context.length;
  const byHead: Record<string, MethodOptions> = {
    'duo-attention': { sparsity: whole ? 0 : 0.5, sinks: 4, recent: 60 },
    'razor-attention': { induction: whole ? 1 : 0.14, sinks: 4, minLocal: 59 },
  };
  return { method, options: byHead[method] ?? { budget }, plan };
}

/** Methods whose layers keep different numbers. */
const layered = ['pyramid-kv', 'compress-kv'];

function largestDifference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((most, value, index) => Math.max(most, Math.abs(value - b[index])), 0);
}

for (const [name, create] of backends) {
  describe(`a compressed prompt on ${name}`, () => {
    let backend: Backend;
    let model: Model;

    beforeAll(async () => {
      backend = create();
      model = await loadTiny({ backend, kvType: 'f32' });
    });

    afterAll(() => {
      model.dispose();
      backend.dispose();
    });

    it.each(kvMethods.map(({ id }) => id))('%s with room for all entries is dense attention', async (method) => {
      const dense = await generate(model, [...context, ...question], options).text();
      const kv = choiceOf(model, method, 4096);
      expect(await generate(model, [...context, ...question], { ...options, kv }).text()).toBe(dense);
      const prefix = await model.prefill(context, { kv });
      expect(await generate(prefix, question, options).text()).toBe(dense);
      expect(await generate(prefix, question, options).text()).toBe(dense);
      prefix.dispose();
    });

    it.each(kvMethods.map(({ id, ragged }) => [id, ragged] as const))(
      '%s keeps its budget, and gives the rest back',
      async (method, ragged) => {
        const budget = 64;
        const prefix = await model.prefill(context, { kv: choiceOf(model, method, budget) });
        const { layers, kvHeads, headDim } = model.config;
        const pageBytes = 64 * 2 * headDim * 4;
        const { raw } = prefix.bytes();
        const streams = layers * kvHeads;
        if (ragged || layered.includes(method)) expect(raw / pageBytes).toBeLessThanOrEqual(2 * streams);
        else expect(raw / pageBytes).toBe(streams);
        prefix.dispose();
      },
    );

    it('attends to what was kept, and nothing else', async () => {
      const { kvHeads, heads } = model.config;
      // Every head drops a part of its own, so that heads of a layer have different lengths.
      const keeps = (head: number, id: number): boolean => id % (head + 3) !== 0;
      const lists = Array.from({ length: kvHeads }, (_, head) =>
        Uint32Array.from(Array.from(context, (_token, id) => id).filter((id) => keeps(head, id))),
      );
      const masked: Pattern = (shape) =>
        cellPattern(
          shape,
          ({ position, mask }) => {
            if (position < context.length) return [[0, position + 1]];
            const kept = lists[Math.floor((mask * kvHeads) / heads)];
            return [...Array.from(kept, (id) => [id, id + 1] as const), [context.length, position + 1]];
          },
          { masks: heads },
        );
      const whole = await model.logits([...context, ...question], { attention: { prefill: masked } });
      const expected = ((await whole.read()) as Float32Array).slice(-question.length * model.config.vocabularySize);
      whole.dispose();
      const prefix = await model.prefill(context, { kv: keeping(lists) });
      for (const phase of ['prefill', 'decode'] as const) {
        const logits = await prefix.logits(question, { phase });
        const found = (await logits.read()) as Float32Array;
        logits.dispose();
        expect(largestDifference(found, expected)).toBeLessThan(5e-4);
      }
      prefix.dispose();
    });

    it('goes on from the first entries, moved up to the next token, as if there had been no others', async () => {
      const first = context.slice(0, 60);
      const whole = await model.logits([...first, ...question]);
      const expected = ((await whole.read()) as Float32Array).slice(-question.length * model.config.vocabularySize);
      whole.dispose();
      const ids = Uint32Array.from(first.keys());
      const lists = Array.from({ length: model.config.kvHeads }, () => ids);
      const read = async (kv: Compressor): Promise<Float32Array> => {
        const prefix = await model.prefill(context, { kv });
        const logits = await prefix.logits(question);
        const found = (await logits.read()) as Float32Array;
        for (const each of [logits, prefix]) each.dispose();
        return found;
      };
      expect(largestDifference(await read(rerotate(keeping(lists))), expected)).toBeLessThan(5e-4);
      expect(largestDifference(await read(keeping(lists)), expected)).toBeGreaterThan(1e-3);
    });

    it('cuts down once the question was read, as if both had been one prompt', async () => {
      const kv: KvChoice = { method: 'snap-kv', options: { budget: 50, window: 3, kernel: 1 } };
      const prefix = await model.prefill(context);
      const whole = await model.prefill([...context, ...question], { kv });
      const asked = await prefix.extend(question, { kv });
      expect(asked.bytes().raw).toBe(whole.bytes().raw);
      expect(await generate(asked, [9], options).text()).toBe(await generate(whole, [9], options).text());
      // What it came from is as it was.
      expect(await generate(prefix, question, options).text()).toBe(
        await generate(model, [...context, ...question], options).text(),
      );
      await expect(asked.extend([1], { kv })).rejects.toThrow(/compressed or coded already/);
      for (const each of [asked, whole, prefix]) each.dispose();
    });

    it.each([1, 5])('goes on with sinks and the newest entries, cut back every %d tokens', async (every) => {
      const [sinks, budget, tokens] = [4, 40, 30];
      const continuation = Array.from({ length: tokens }, (_, index) => (index * 17) % 200);
      const recent = budget - sinks;
      // After every cut `budget` entries are left; what came since is seen too.
      const pattern: Pattern = (shape) =>
        cellPattern(shape, ({ position }) => {
          if (position < context.length) return [[0, position + 1]];
          const cut = context.length + Math.floor((position - context.length) / every) * every;
          return [
            [0, sinks],
            [cut - recent, position + 1],
          ];
        });
      const whole = await model.logits([...context, ...continuation], { attention: { prefill: pattern } });
      const expected = ((await whole.read()) as Float32Array).slice(-tokens * model.config.vocabularySize);
      whole.dispose();
      const kv: KvChoice = { method: 'streaming-llm', options: { budget, sinks }, every };
      const prefix = await model.prefill(context, { kv });
      // Twice, on forks of one prefix.
      for (let time = 0; time < 2; time++) {
        const logits = await prefix.logits(continuation, { phase: 'decode' });
        expect(largestDifference((await logits.read()) as Float32Array, expected)).toBeLessThan(5e-4);
        logits.dispose();
      }
      prefix.dispose();
    });

    it.each(['tova', 'h2o', 'snap-kv', 'ada-kv', 'random', 'knorm', 'key-diff'])(
      '%s holds its bytes while tokens come',
      async (method) => {
        const before = backend.memory().liveBytes;
        const bytes: number[] = [];
        const budget = 40;
        const own: KvChoice = { method, options: method.endsWith('-kv') ? { budget, window: 8 } : { budget }, every: 4 };
        const generation = generate(model, context, { maxTokens: name === 'reference' ? 24 : 100, ignoreEos: true, kv: own });
        for await (const { token } of generation) {
          expect(token).toBeGreaterThanOrEqual(0);
          bytes.push(generation.stats.kvBytes);
        }
        // A page each way: heads of Ada-KV differ.
        const page = 64 * 2 * model.config.headDim * 4;
        expect(Math.max(...bytes.slice(10)) - Math.min(...bytes.slice(10))).toBeLessThanOrEqual(
          model.config.layers * model.config.kvHeads * page + 2000,
        );
        expect(backend.memory().liveBytes).toBe(before);
      },
    );

    it('refuses sparse attention over what was kept, and other contradictions', async () => {
      const kv: KvChoice = { method: 'snap-kv', options: { budget: 64 } };
      await expect(model.prefill(context, { kv, attention: { prefill: { method: 'streaming-llm' } } })).rejects.toThrow(
        OptionError,
      );
      await expect(model.prefill(context, { kv: { method: 'none' } })).rejects.toThrow(/no method "none"/);
      await expect(model.prefill(context, { kv: { method: 'snap-kv', options: { window: 0 } } })).rejects.toThrow(/window/);
      await expect(model.prefill(context, { kv: { method: 'snap-kv', every: 0 } })).rejects.toThrow(/every is 0/);
      await expect(
        model.prefill(context, { kv: { method: 'h2o', options: { normalizeByAge: true }, every: 4 } }),
      ).rejects.toThrow(/whole prompts/);
      const prefix = await model.prefill(context);
      expect(() => generate(prefix, question, { kv })).toThrow(/Model.prefill/);
      prefix.dispose();
    });

    it('gives everything back after a score that is NaN, and after an abort', async () => {
      const before = backend.memory().liveBytes;
      const broken = compressor({
        id: 'broken',
        queries: 1,
        queryAgnostic: true,
        budget: () => 10,
        score: ({ kvHeads, length }) => fromArray(backend, new Float32Array(kvHeads * length).fill(NaN), [kvHeads, length]),
      });
      await expect(model.prefill(context, { kv: broken })).rejects.toThrow(/NaN/);
      expect(backend.memory().liveBytes).toBe(before);
      const controller = new AbortController();
      const running = model.prefill(context, { kv: { method: 'snap-kv', options: { budget: 40 } }, signal: controller.signal });
      controller.abort();
      await expect(running).rejects.toThrow(AbortError);
      const prefix = await model.prefill(context);
      await expect(prefix.extend(question, { kv: broken })).rejects.toThrow(/NaN/);
      prefix.dispose();
      expect(backend.memory().liveBytes).toBe(before);
    });
  });
}
