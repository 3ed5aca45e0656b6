import { OptionError, type Backend } from '@filigree/core-tensor';
import { generate, type KvType, type Model } from '@filigree/transformer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { divergence, numbers } from './support/divergence.js';
import { backends, loadTiny } from './support/tiny.js';

const context = Array.from({ length: 150 }, (_, index) => (index * 31) % 200);
const continuation = Array.from({ length: 40 }, (_, index) => (index * 17) % 200);

for (const [name, create] of backends) {
  describe(`a coded cache on ${name}`, () => {
    let backend: Backend;
    let exact: Model;

    beforeAll(async () => {
      backend = create();
      exact = await loadTiny({ backend, kvType: 'f16' });
    });

    afterAll(() => {
      exact.dispose();
      backend.dispose();
    });

    // Random weights make sharp predictions: a trained model moves far less.
    const bounds: readonly (readonly [KvType, number])[] = [
      ['int8', 0.05],
      ['kivi4', 0.5],
      ['kivi2', 4],
      ['turbo4', 0.5],
      ['turbo2', 4],
      ['bitmap50', 4],
      [{ k: 'int8', v: 'kivi4' }, 0.5],
      [{ k: 'kivi4', v: 'int8' }, 0.5],
      [{ k: 'kivi4', v: 'turbo4' }, 0.5],
    ];

    // The reference is slow, and formats differ in the ops alone, which have tests of their own.
    it.each(name === 'reference' ? bounds.slice(0, 1) : bounds)(
      'of %j moves predictions by a KL below %d, and is smaller',
      async (kvType, bound) => {
        const model = await loadTiny({ backend, kvType });
        const prefixes = [await exact.prefill(context), await model.prefill(context)];
        const [expected, found] = [
          await numbers(prefixes[0].logits(continuation, { phase: 'decode' })),
          await numbers(prefixes[1].logits(continuation, { phase: 'decode' })),
        ];
        expect(divergence(expected, found, model.config.vocabularySize)).toBeLessThan(bound);
        expect(prefixes[1].bytes().codes).toBeGreaterThan(0);
        const { raw, codes } = prefixes[1].bytes();
        expect(raw + codes).toBeLessThan(prefixes[0].bytes().raw);
        for (const prefix of prefixes) prefix.dispose();
        model.dispose();
      },
    );

    it('is one of several types that share the weights of a model', async () => {
      const [coded, rows] = [exact.withKvType({ k: 'int8', v: 'kivi4' }), exact.withKvType('f32')];
      const heads = exact.config.kvHeads * exact.config.headDim;
      expect([exact.kvEntryBytes, rows.kvEntryBytes]).toEqual([4 * heads, 8 * heads]);
      expect(coded.kvEntryBytes).toBeLessThan(exact.kvEntryBytes);
      const prefix = await coded.prefill(context);
      expect(prefix.bytes().codes).toBeGreaterThan(0);
      prefix.dispose();
      coded.dispose();
      await expect(coded.prefill(context)).rejects.toThrow(/after dispose/);
      const still = await exact.prefill(context);
      still.dispose();
      rows.dispose();
      expect(() => exact.withKvType('int3' as KvType)).toThrow(/withKvType: kvType is "int3"/);
    });

    it('reads a prompt in steps of any size, and goes on from forks as if alone', async () => {
      const model = await loadTiny({ backend, kvType: 'int8' });
      const options = { maxTokens: name === 'reference' ? 20 : 100, ignoreEos: true };
      const text = await generate(model, context, options).text();
      const prefix = await model.prefill(context.slice(0, -1));
      const last = context.slice(-1);
      expect(await generate(prefix, last, options).text()).toBe(text);
      expect(await generate(prefix, last, options).text()).toBe(text);
      prefix.dispose();
      model.dispose();
    });

    it('is not cut down, as its pages are codes', async () => {
      const model = await loadTiny({ backend, kvType: 'int8' });
      await expect(
        generate(model, context, { speculate: { kv: { method: 'snap-kv', options: { budget: 20, window: 4 } } } }).text(),
      ).rejects.toThrow(/coded already/);
      await expect(model.prefill(context, { kv: { method: 'snap-kv' } })).rejects.toThrow(/not codes/);
      await expect(generate(model, context, { kv: { method: 'snap-kv' } }).text()).rejects.toThrow(/not codes/);
      model.dispose();
    });

    it('gives memory back, and refuses sparse attention and types that there are not', async () => {
      const model = await loadTiny({ backend, kvType: 'kivi4' });
      await generate(model, context, { maxTokens: 2 }).text();
      const before = backend.memory().liveBytes;
      await generate(model, context, { maxTokens: name === 'reference' ? 10 : 80, ignoreEos: true }).text();
      await expect(generate(model, context, { attention: { prefill: { method: 'streaming-llm' } } }).text()).rejects.toThrow(
        OptionError,
      );
      await backend.sync();
      expect(backend.memory().liveBytes).toBe(before);
      model.dispose();
      await expect(loadTiny({ backend, kvType: 'int3' as KvType })).rejects.toThrow(/kvType is "int3"/);
    });
  });
}
