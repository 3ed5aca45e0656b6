import { AbortError, OptionError, type Backend } from '@filigree/core-tensor';
import { createNativeBackend } from '@filigree/backend-native';
import { ContextLengthError, generate, NonFiniteLogitsError, type GenerateOptions, type Model } from '@filigree/transformer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { backends, loadTiny } from './support/tiny.js';

async function tokensOf(model: Model, prompt: readonly number[], options: GenerateOptions): Promise<number[]> {
  const tokens: number[] = [];
  for await (const { token } of generate(model, prompt, { ignoreEos: true, ...options })) tokens.push(token);
  return tokens;
}

/** Greedy continuation by whole teacher-forced runs: no cache, no steps. */
async function continued(model: Model, prompt: readonly number[], count: number): Promise<number[]> {
  const tokens = [...prompt];
  for (let step = 0; step < count; step++) {
    const logits = await model.logits(tokens);
    const width = logits.shape[1];
    const last = ((await logits.read()) as Float32Array).slice(-width);
    logits.dispose();
    tokens.push(last.indexOf(Math.max(...last)));
  }
  return tokens.slice(prompt.length);
}

for (const [name, create] of backends) {
  describe(`generate on ${name}`, () => {
    let backend: Backend;
    let model: Model;
    let start: number;

    beforeAll(async () => {
      backend = create();
      start = backend.memory().liveBytes;
      model = await loadTiny({ backend, kvType: 'f32' });
    });

    afterAll(async () => {
      model.dispose();
      await backend.sync();
      expect(backend.memory().liveBytes).toBe(start);
      backend.dispose();
    });

    it('continues greedily as teacher-forced runs do', async () => {
      const prompt = model.tokenize('the cat sat on');
      expect(await tokensOf(model, prompt, { maxTokens: 8 })).toEqual(await continued(model, prompt, 8));
    });

    it('gives the same tokens with a prompt of several chunks', { timeout: 300_000 }, async () => {
      if (name === 'reference') return;
      const wide = await loadTiny({ backend, kvType: 'f32' }, { context: 2048 });
      const prompt = Array.from({ length: 1100 }, (_, index) => (index * 31) % 200);
      const read: number[] = [];
      const onPrefill: GenerateOptions['onPrefill'] = ({ doneTokens }) => read.push(doneTokens);
      expect(await tokensOf(wide, prompt, { maxTokens: 4, onPrefill })).toEqual(await continued(wide, prompt, 4));
      expect(read).toEqual([512, 1024]);
      wide.dispose();
    });

    it('draws the same tokens for the same seed and others for another', async () => {
      const prompt = model.tokenize('a');
      const draw = (seed: number): Promise<number[]> =>
        tokensOf(model, prompt, { maxTokens: 16, sampling: { temperature: 1.5, topK: 50, topP: 0.95, minP: 0.01, seed } });
      const first = await draw(7);
      expect(await draw(7)).toEqual(first);
      expect(await draw(8)).not.toEqual(first);
    });

    it('interleaves two generations on one model', async () => {
      const [one, two] = [model.tokenize('one fish'), model.tokenize('two fish, red')];
      const alone = [await tokensOf(model, one, { maxTokens: 10 }), await tokensOf(model, two, { maxTokens: 6 })];
      const together = await Promise.all([tokensOf(model, one, { maxTokens: 10 }), tokensOf(model, two, { maxTokens: 6 })]);
      expect(together).toEqual(alone);
    });

    it('lets timers run between tokens, so that signals can fire', async () => {
      let turns = 0;
      const timer = setInterval(() => turns++, 0);
      await tokensOf(model, [1, 2, 3], { maxTokens: 40 });
      clearInterval(timer);
      expect(turns).toBeGreaterThan(4);
    });

    it('ends with reason length when the context is full', async () => {
      const small = await loadTiny({ backend, context: 12 });
      const generation = generate(small, [1, 2, 3, 4], { maxTokens: 100, ignoreEos: true });
      await generation.text();
      expect(generation.reason).toBe('length');
      expect(generation.stats.promptTokens + generation.stats.decodeTokens + 1).toBe(12);
      small.dispose();
    });

    it('ends with reason stop before a stop string, which is not part of the text', async () => {
      const whole = await generate(model, 'hello', { maxTokens: 24, ignoreEos: true }).text();
      const stop = whole.slice(8, 11);
      const generation = generate(model, 'hello', { maxTokens: 24, ignoreEos: true, stop: [stop] });
      expect(await generation.text()).toBe(whole.slice(0, whole.indexOf(stop)));
      expect(generation.reason).toBe('stop');
    });

    it('rejects with AbortError in the middle of decoding and goes on working', async () => {
      const controller = new AbortController();
      const generation = generate(model, 'abort me', { maxTokens: 200, ignoreEos: true, signal: controller.signal });
      let parts = 0;
      const run = (async () => {
        for await (const _ of generation) if (++parts === 3) controller.abort();
      })();
      await expect(run).rejects.toThrow(AbortError);
      expect(parts).toBe(3);
      expect(generation.reason).toBe('aborted');
      await backend.sync().catch(() => undefined);
      expect(await tokensOf(model, [1, 2, 3], { maxTokens: 2 })).toHaveLength(2);
    });

    it('rejects with AbortError in the middle of the prompt', async () => {
      const controller = new AbortController();
      const wide = await loadTiny({ backend }, { context: 4096, layers: 1 });
      const prompt = Array.from({ length: name === 'native' ? 4000 : 700 }, (_, index) => index % 200);
      const generation = generate(wide, prompt, { maxTokens: 4, signal: controller.signal });
      setTimeout(() => {
        controller.abort();
      }, 0);
      await expect(generation.text()).rejects.toThrow(AbortError);
      await backend.sync().catch(() => undefined);
      wide.dispose();
    });

    it('gives memory back when the caller stops early', async () => {
      await backend.sync();
      const before = backend.memory().liveBytes;
      for await (const _ of generate(model, 'leave early', { maxTokens: 50, ignoreEos: true })) break;
      await backend.sync();
      expect(backend.memory().liveBytes).toBe(before);
    });

    it('attends to less with sinks and a window, and to everything when the window is the prompt', async () => {
      const prompt = Array.from({ length: 200 }, (_, index) => (index * 17) % 200);
      const sparse = (window: number): GenerateOptions => ({
        maxTokens: 4,
        attention: { prefill: { method: 'streaming-llm', options: { sinks: 4, window } } },
      });
      const dense = await tokensOf(model, prompt, { maxTokens: 4 });
      expect(await tokensOf(model, prompt, sparse(200))).toEqual(dense);
      const generation = generate(model, prompt, { ignoreEos: true, ...sparse(32) });
      await generation.text();
      expect(generation.stats.density).toBeGreaterThan(0.2);
      expect(generation.stats.density).toBeLessThan(0.5);
    });
  });
}

describe('generate', () => {
  it('counts what it did', async () => {
    const model = await loadTiny({ kvType: 'f16' });
    const generation = generate(model, [1, 2, 3, 4, 5], { maxTokens: 7, ignoreEos: true });
    await generation.text();
    const { promptTokens, decodeTokens, prefillMs, decodeMs, density, kvBytes, peakRssBytes } = generation.stats;
    expect({ promptTokens, decodeTokens, density }).toEqual({ promptTokens: 5, decodeTokens: 6, density: 1 });
    expect(prefillMs).toBeGreaterThan(0);
    expect(decodeMs).toBeGreaterThan(0);
    // One page of 64 entries: 2 layers · (keys and values) · 2 heads · 16 channels · 2 bytes, and the tables.
    expect(kvBytes).toBeGreaterThanOrEqual(64 * 2 * 2 * 2 * 16 * 2);
    expect(kvBytes).toBeLessThan(64 * 2 * 2 * 2 * 16 * 2 + 64);
    expect(peakRssBytes).toBeGreaterThan(2 ** 24);
    model.dispose();
  });

  it('rejects what it cannot run, before anything is queued', async () => {
    const model = await loadTiny();
    const bad = (options: GenerateOptions, prompt: string | readonly number[] = 'x'): unknown =>
      generate(model, prompt, options);
    expect(() => bad({ maxTokens: 0 })).toThrow(/maxTokens is 0/);
    expect(() => bad({ sampling: { temperature: -1 } })).toThrow(/temperature is -1/);
    expect(() => bad({ sampling: { temperature: Number.NaN } })).toThrow(/temperature is NaN/);
    expect(() => bad({ sampling: { topP: 0 } })).toThrow(/topP is 0/);
    expect(() => bad({ sampling: { topK: 1.5 } })).toThrow(/topK is 1.5/);
    expect(() => bad({ stop: [''] })).toThrow(/stop string is empty/);
    expect(() => bad({ attention: { prefill: { method: 'nope' } } })).toThrow(/no method "nope"/);
    expect(() => bad({ attention: { prefill: { method: 'streaming-llm', options: { wide: 1 } } } })).toThrow(
      /no option "wide"/,
    );
    expect(() => bad({}, [1, 99999])).toThrow(/token 1 is 99999/);
    expect(() => bad({}, [])).toThrow(OptionError);
    expect(() => bad({}, Array<number>(600).fill(1))).toThrow(ContextLengthError);
    model.dispose();
  });

  it('can be iterated once', async () => {
    const model = await loadTiny();
    const generation = generate(model, 'x', { maxTokens: 2 });
    await generation.text();
    await expect(generation.text()).rejects.toThrow(/iterated once/);
    model.dispose();
  });

  it('rejects with NonFiniteLogitsError when weights are NaN', async () => {
    const backend = createNativeBackend({ threads: 1 });
    const model = await loadTiny({ backend }, { type: 'F32', nan: 'output_norm.weight' });
    await expect(generate(model, 'x', { maxTokens: 2 }).text()).rejects.toThrow(NonFiniteLogitsError);
    model.dispose();
    backend.dispose();
  });
});
