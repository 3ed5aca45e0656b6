import { AbortError, DisposedError, type Backend } from '@filigree/core-tensor';
import { KvCapacityError } from '@filigree/kv-cache';
import { ContextLengthError, generate, type Model } from '@filigree/transformer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { backends, loadTiny } from './support/tiny.js';

const context = Array.from({ length: 100 }, (_, index) => (index * 31) % 200);

async function lastRows(logits: Promise<{ read(): Promise<unknown>; dispose(): void }>, values: number): Promise<Float32Array> {
  const tensor = await logits;
  const read = (await tensor.read()) as Float32Array;
  tensor.dispose();
  return read.slice(-values);
}

for (const [name, create] of backends) {
  describe(`a prefix on ${name}`, () => {
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

    it('is continued as if everything had been one prompt', async () => {
      const question = [5, 6, 7];
      const options = { maxTokens: 6, ignoreEos: true };
      const whole = await generate(model, [...context, ...question], options).text();
      const prefix = await model.prefill(context);
      expect(await generate(prefix, question, options).text()).toBe(whole);
      expect(await generate(prefix, question, options).text()).toBe(whole);
      prefix.dispose();
    });

    it('gives the logits of a continuation, read at once or token by token', async () => {
      const continuation = [9, 8, 7, 6, 5];
      const values = continuation.length * model.config.vocabularySize;
      const whole = await lastRows(model.logits([...context, ...continuation]), values);
      const prefix = await model.prefill(context);
      for (const phase of ['prefill', 'decode'] as const) {
        const found = await lastRows(prefix.logits(continuation, { phase }), values);
        expect(largestDifference(found, whole)).toBeLessThan(2e-4);
      }
      prefix.dispose();
    });

    it('says what comes next', async () => {
      const prefix = await model.prefill(context, { prefillChunk: 33 });
      const next = (await prefix.next.read()) as Float32Array;
      const whole = await lastRows(model.logits(context), next.length);
      expect(largestDifference(next, whole)).toBeLessThan(2e-4);
      prefix.dispose();
    });

    it('keeps continuations that run at the same time apart', async () => {
      const options = { maxTokens: 8, ignoreEos: true };
      const prefix = await model.prefill(context);
      const questions = [[1], [2, 3], [4, 5, 6]];
      const alone = [];
      for (const question of questions) alone.push(await generate(prefix, question, options).text());
      const together = questions.map((question) => generate(prefix, question, options).text());
      expect(await Promise.all(together)).toEqual(alone);
      prefix.dispose();
    });

    it('is extended to a prefix that outlives it', async () => {
      const prefix = await model.prefill(context.slice(0, 60));
      const longer = await prefix.extend(context.slice(60));
      prefix.dispose();
      expect(longer.tokens).toEqual(context);
      const options = { maxTokens: 5, ignoreEos: true };
      expect(await generate(longer, [5], options).text()).toBe(await generate(model, [...context, 5], options).text());
      longer.dispose();
    });

    it('serves others after a continuation was aborted', async () => {
      const prefix = await model.prefill(context);
      const options = { maxTokens: 5, ignoreEos: true };
      const before = await generate(prefix, [5], options).text();
      const controller = new AbortController();
      const aborted = (async () => {
        for await (const _ of generate(prefix, [7], { maxTokens: 50, ignoreEos: true, signal: controller.signal }))
          controller.abort();
      })();
      await expect(aborted).rejects.toThrow(AbortError);
      expect(await generate(prefix, [5], options).text()).toBe(before);
      prefix.dispose();
    });

    it('gives memory back', async () => {
      await backend.sync();
      const before = backend.memory().liveBytes;
      const prefix = await model.prefill(context);
      await generate(prefix, [5], { maxTokens: 3 }).text();
      const logits = await prefix.logits([5, 6]);
      logits.dispose();
      const controller = new AbortController();
      const aborted = model.prefill(context, {
        prefillChunk: 10,
        signal: controller.signal,
        onPrefill: () => controller.abort(),
      });
      await expect(aborted).rejects.toThrow(AbortError);
      prefix.dispose();
      prefix.dispose();
      await backend.sync();
      expect(backend.memory().liveBytes).toBe(before);
    });

    it('has room for what it was asked to have', async () => {
      const prefix = await model.prefill(context, { room: 64 });
      await generate(prefix, context.slice(0, 60), { maxTokens: 4, ignoreEos: true }).text();
      await expect(generate(prefix, context, { maxTokens: 100, ignoreEos: true }).text()).rejects.toThrow(KvCapacityError);
      await generate(prefix, context.slice(0, 60), { maxTokens: 4, ignoreEos: true }).text();
      prefix.dispose();
    });

    it('rejects what does not fit, and what comes after dispose', async () => {
      const prefix = await model.prefill(context);
      await expect(prefix.logits(Array<number>(500).fill(1))).rejects.toThrow(ContextLengthError);
      expect(() => generate(prefix, Array<number>(500).fill(1))).toThrow(ContextLengthError);
      await expect(prefix.logits([])).rejects.toThrow(/no tokens/);
      await expect(model.prefill(context, { room: -1 })).rejects.toThrow(/room is -1/);
      await expect(model.prefill(context, { prefillChunk: 0 })).rejects.toThrow(/chunk is 0/);
      prefix.dispose();
      expect(() => prefix.fork()).toThrow(DisposedError);
    });
  });
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((largest, value, index) => Math.max(largest, Math.abs(value - b[index])), 0);
}
