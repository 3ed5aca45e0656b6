import { AbortError, DisposedError, type Backend } from '@filigree/core-tensor';
import { KvCapacityError, lru, memoryTier } from '@filigree/kv-cache';
import { generate, PromptCache, type Model } from '@filigree/transformer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { backends, loadTiny } from './support/tiny.js';

/** So many tokens that begin alike for one seed. */
const tokens = (length: number, seed = 31): number[] => Array.from({ length }, (_, index) => (index * seed) % 200);

const options = { maxTokens: 6, ignoreEos: true };

for (const [name, create] of backends) {
  describe(`a prompt cache on ${name}`, () => {
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

    /** Text of a generation, and the tokens it read and knew. */
    async function ask(prompt: readonly number[], promptCache?: PromptCache) {
      const generation = generate(model, prompt, { ...options, promptCache });
      const text = await generation.text();
      const { promptTokens, cachedTokens } = generation.stats;
      expect(promptTokens + cachedTokens).toBe(prompt.length);
      return { text, known: cachedTokens };
    }

    it('reads what is new of a prompt, and says what is said without it', async () => {
      const cache = new PromptCache(model);
      const [one, other] = [
        [...tokens(150), 5, 6],
        [...tokens(150), 7],
      ];
      expect(await ask(one, cache)).toEqual({ text: (await ask(one)).text, known: 0 });
      expect(await ask(other, cache)).toEqual({ text: (await ask(other)).text, known: 128 });
      expect(await ask(tokens(100), cache)).toEqual({ text: (await ask(tokens(100))).text, known: 64 });
      expect(await ask(tokens(100, 37), cache)).toMatchObject({ known: 0 });
      expect(cache.length).toBe(128 + 64);
      cache.dispose();
    });

    it('runs at least the last token', async () => {
      const cache = new PromptCache(model);
      await ask(tokens(128), cache);
      expect(await ask(tokens(128), cache)).toEqual({ text: (await ask(tokens(128))).text, known: 64 });
      cache.dispose();
    });

    it('knows answers too, for the next turn', async () => {
      const cache = new PromptCache(model);
      const prompt = tokens(125);
      const answer: number[] = [];
      for await (const { token } of generate(model, prompt, { ...options, promptCache: cache })) answer.push(token);
      const next = [...prompt, ...answer, 5, 6, 7];
      expect(await ask(next, cache)).toEqual({ text: (await ask(next)).text, known: 128 });
      cache.dispose();
    });

    it('keeps the prompt of an answer that was stopped, and none of one that was not read', async () => {
      const cache = new PromptCache(model);
      const stop = new AbortController();
      const generation = generate(model, tokens(150), { ...options, promptCache: cache, signal: stop.signal });
      await expect(
        (async () => {
          for await (const { token } of generation) if (token >= 0) stop.abort();
        })(),
      ).rejects.toThrow(AbortError);
      expect(cache.length).toBe(128);
      const before = generate(model, tokens(150, 37), { promptCache: cache, prefillChunk: 64, signal: AbortSignal.timeout(0) });
      await new Promise((resolve) => setTimeout(resolve, 5));
      await expect(before.text()).rejects.toThrow(AbortError);
      expect(cache.length).toBe(128);
      cache.dispose();
    });

    it('gives up what is old when room is short, and says when a prompt cannot fit', async () => {
      const cache = new PromptCache(model, { capacity: 192, policy: lru() });
      for (const seed of [31, 37, 41]) await ask(tokens(150, seed), cache);
      expect((await ask(tokens(150, 41), cache)).known).toBe(128);
      expect((await ask(tokens(150, 31), cache)).known).toBe(0);
      expect(cache.bytes).toBeLessThanOrEqual(3 * 64 * model.kvEntryBytes * model.config.layers);
      await expect(ask(tokens(200), cache)).rejects.toThrow(KvCapacityError);
      cache.dispose();
    });

    it('brings back from a tier what had to leave', async () => {
      const tier = memoryTier();
      const cache = new PromptCache(model, { capacity: 192, policy: lru(), tier: { tier, capacity: 16 } });
      const { text } = await ask(tokens(150), cache);
      for (const seed of [37, 41]) await ask(tokens(150, seed), cache);
      expect(await ask(tokens(150), cache)).toEqual({ text, known: 128 });
      cache.dispose();
      await tier.close();
    });

    it('serves generations that run at once', async () => {
      const cache = new PromptCache(model, { capacity: 1024 });
      const prompts = [5, 6, 7].map((last) => [...tokens(150), last]);
      const alone: string[] = [];
      for (const prompt of prompts) alone.push((await ask(prompt)).text);
      const together = await Promise.all(prompts.map((prompt) => ask(prompt, cache)));
      expect(together.map(({ text }) => text)).toEqual(alone);
      expect(cache.length).toBe(128);
      cache.dispose();
    });

    it('gives all memory back', async () => {
      await backend.sync();
      const before = backend.memory().liveBytes;
      const cache = new PromptCache(model);
      await ask(tokens(150), cache);
      cache.clear();
      expect(cache.length).toBe(0);
      cache.dispose();
      cache.dispose();
      await backend.sync();
      expect(backend.memory().liveBytes).toBe(before);
      await expect(ask(tokens(9), cache)).rejects.toThrow(DisposedError);
    });
  });
}

it('refuses what would not be the entries of a prompt', async () => {
  const model = await loadTiny();
  const cache = new PromptCache(model);
  const refuse = (change: object, message: RegExp): void => {
    expect(() => generate(model, 'to be', { promptCache: cache, ...change })).toThrow(message);
  };
  refuse({ kv: { method: 'snap-kv' } }, /leave out kv/);
  refuse({ attention: { prefill: { method: 'streaming-llm' } } }, /leave out attention.prefill/);
  const prefix = await model.prefill(tokens(9));
  expect(() => generate(prefix, 'to be', { promptCache: cache })).toThrow(/leave out promptCache/);
  prefix.dispose();
  expect(() => generate(model.withKvType('f32'), 'to be', { promptCache: cache })).toThrow(/another model/);
  expect(() => new PromptCache(model.withKvType('int8'))).toThrow(/as rows, not as codes/);
  expect(() => new PromptCache(model, { capacity: 0 })).toThrow(/capacity is 0/);
  cache.dispose();
  model.dispose();
});
