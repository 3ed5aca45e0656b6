import { bytesSink, bytesSource } from '@filigree/checkpoint';
import { DisposedError, type Backend } from '@filigree/core-tensor';
import {
  KvCache,
  KvCorruptError,
  KvFormatError,
  KvMismatchError,
  readKvHeader,
  saveKv,
  TruncateBelowFloorError,
} from '@filigree/kv-cache';
import { ContextLengthError, generate, type KvChoice, type Model, type Prefix } from '@filigree/transformer';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { backends, loadTiny } from './support/tiny.js';

const context = Array.from({ length: 150 }, (_, index) => (index * 31) % 200);
const question = [5, 6, 7];
const options = { maxTokens: 8, ignoreEos: true };
const answer = (prefix: Prefix): Promise<string> => generate(prefix, question, options).text();

async function saved(prefix: Prefix, modelId?: string): Promise<Uint8Array> {
  const sink = bytesSink();
  await prefix.save(sink, { modelId });
  return sink.bytes();
}

for (const [name, create] of backends) {
  describe(`a saved prefix on ${name}`, () => {
    let backend: Backend;
    const models: Model[] = [];

    beforeAll(async () => {
      backend = create();
      for (const kvType of ['f32', 'f16'] as const) models.push(await loadTiny({ backend, kvType }));
    });

    afterAll(() => {
      for (const model of models) model.dispose();
      backend.dispose();
    });

    const choices: [string, KvChoice | undefined][] = [
      ['dense', undefined],
      ['snap-kv', { method: 'snap-kv', options: { budget: 40 } }],
      ['ada-kv', { method: 'ada-kv', options: { budget: 40 } }],
    ];

    it.each(choices)('goes on with the same text, and is saved as the same bytes: %s', async (_, kv) => {
      for (const model of models) {
        const prefix = await model.prefill(context, { kv });
        const [text, next, bytes] = [await answer(prefix), await prefix.next.read(), await saved(prefix)];
        prefix.dispose();
        const loaded = await model.loadPrefix(bytesSource(bytes));
        expect([loaded.tokens, await loaded.next.read()]).toEqual([context, next]);
        expect(await answer(loaded)).toBe(text);
        expect(await saved(loaded)).toEqual(bytes);
        const longer = await loaded.extend([1, 2, 3]);
        loaded.dispose();
        expect((await saved(longer)).length).toBeGreaterThan(bytes.length);
        longer.dispose();
      }
    });

    it('is whole without memory left behind, in a file too', async () => {
      const [model] = models;
      const folder = await mkdtemp(join(tmpdir(), 'filigree-prefix-'));
      const path = join(folder, 'conversation.kv');
      await backend.sync();
      const before = backend.memory().liveBytes;
      const prefix = await model.prefill(context);
      await prefix.save(path);
      expect(await readdir(folder)).toEqual(['conversation.kv']);
      const loaded = await model.loadPrefix(path, { room: 64 });
      expect(await answer(loaded)).toBe(await answer(prefix));
      for (const other of [prefix, loaded]) other.dispose();
      await expect(prefix.save(path)).rejects.toThrow(DisposedError);
      await expect(model.loadPrefix(path, { modelId: 'other' })).rejects.toThrow(KvMismatchError);
      await backend.sync();
      expect(backend.memory().liveBytes).toBe(before);
      await rm(folder, { recursive: true });
    });

    it('is refused by another model, another type of cache and another name', async () => {
      const [model, half] = models;
      const prefix = await model.prefill(context.slice(0, 20));
      const bytes = await saved(prefix);
      const header = await readKvHeader(bytesSource(bytes));
      expect(header).toMatchObject({ model: await model.fingerprint(), tokens: context.slice(0, 20) });
      // The same sizes, and other weights.
      const other = await loadTiny({ backend, kvType: 'f32' }, { seed: 2 });
      await expect(other.loadPrefix(bytesSource(bytes))).rejects.toThrow(/saved by the model/);
      await expect(half.loadPrefix(bytesSource(bytes))).rejects.toThrow(/entries are f32, f16 was expected/);
      const named = await saved(prefix, 'tiny with an adapter');
      await expect(model.loadPrefix(bytesSource(named))).rejects.toThrow(KvMismatchError);
      const loaded = await model.loadPrefix(bytesSource(named), { modelId: 'tiny with an adapter' });
      for (const made of [prefix, loaded]) made.dispose();
      // A caller may say that two models are the same; their caches have to fit then.
      const small = await loadTiny({ backend, kvType: 'f32' }, { seed: 2, layers: 1 });
      const modelId = 'tiny with an adapter';
      await expect(small.loadPrefix(bytesSource(named), { modelId })).rejects.toThrow(/has 2 layers, 1 were expected/);
      for (const made of [other, small]) made.dispose();
    });

    it('of a damaged file goes on from what is intact', async () => {
      const [model] = models;
      const prefix = await model.prefill(context);
      const bytes = (await saved(prefix)).slice(0, -100);
      prefix.dispose();
      await expect(model.loadPrefix(bytesSource(bytes))).rejects.toThrow(KvCorruptError);
      await backend.sync();
      const before = backend.memory().liveBytes;
      const part = await model.loadPrefix(bytesSource(bytes), { partial: true });
      expect(part.tokens).toEqual(context.slice(0, 128));
      const whole = await model.prefill(context.slice(0, 128));
      expect(await answer(part)).toBe(await answer(whole));
      for (const made of [part, whole]) made.dispose();
      const nothing = bytes.slice(0, -bytes.length + 20_000);
      await expect(model.loadPrefix(bytesSource(nothing), { partial: true })).rejects.toThrow(KvCorruptError);
      await backend.sync();
      expect(backend.memory().liveBytes).toBe(before);
    });

    it('that was cut down is refused when what is left cannot go on', async () => {
      const [model] = models;
      const kv: KvChoice = { method: 'snap-kv', options: { budget: 40 } };
      const prefix = await model.prefill(context, { kv });
      const bytes = await saved(prefix);
      prefix.dispose();
      await expect(model.loadPrefix(bytesSource(bytes.slice(0, -9)), { partial: true })).rejects.toThrow(
        /nothing can be taken/,
      );
      // Pages are whole and the logits are not: the last token cannot run again.
      const text = bytes.slice();
      const { attachmentBytes } = await readKvHeader(bytesSource(bytes));
      expect(attachmentBytes).toBe(4 * model.config.vocabularySize);
      text[20 + new DataView(bytes.buffer).getUint32(12, true)] ^= 1;
      await expect(model.loadPrefix(bytesSource(text))).rejects.toThrow(KvFormatError);
      await expect(model.loadPrefix(bytesSource(text), { partial: true })).rejects.toThrow(TruncateBelowFloorError);
    });

    it('must be of a model, with its tokens, and fit into the context', async () => {
      const [model] = models;
      const cache = new KvCache(backend, { ...model.cacheLayout(), capacity: 700 });
      cache.reserve(10);
      const [sink, id] = [bytesSink(), await model.fingerprint()];
      await saveKv(sink, cache, { model: id });
      await expect(model.loadPrefix(bytesSource(sink.bytes()))).rejects.toThrow(/has 0 tokens of 10 positions/);
      const without = bytesSink();
      await saveKv(without, cache, { model: id, tokens: context.slice(0, 10), attachment: new Uint8Array(8) });
      await expect(model.loadPrefix(bytesSource(without.bytes()))).rejects.toThrow(/has 8 bytes of logits/);
      cache.reserve(model.context);
      const long = bytesSink();
      await saveKv(long, cache, { model: id, tokens: Array<number>(model.context + 10).fill(1) });
      await expect(model.loadPrefix(bytesSource(long.bytes()))).rejects.toThrow(ContextLengthError);
      cache.dispose();
    });
  });
}
