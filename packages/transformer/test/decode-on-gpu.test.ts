import { webGpuBackends } from '@filigree/testing';
import type { WebGpuBackend } from '@filigree/backend-webgpu';
import { generate, phaseAttention, type AttentionOptions, type GenerateOptions, type Model } from '@filigree/transformer';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { methodCases } from '../../sparse-attention/test/support/method-cases.js';
import { loadTiny } from './support/tiny.js';

interface Traffic {
  readonly submissions: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
}

/** What `count` more tokens cost: a long generation less a short one, after one that compiled the shaders. */
async function trafficPerToken(backend: WebGpuBackend, model: Model, options: GenerateOptions): Promise<Traffic> {
  const submit = vi.spyOn(backend.device.queue, 'submit');
  const read = vi.spyOn(backend, 'read');
  const write = vi.spyOn(backend, 'write');
  const measure = async (maxTokens: number): Promise<Traffic> => {
    for (const spy of [submit, read, write]) spy.mockClear();
    for await (const part of generate(model, [1, 2, 3], { ...options, ignoreEos: true, maxTokens })) void part;
    return {
      submissions: submit.mock.calls.length,
      readBytes: read.mock.calls.reduce((sum, [, , bytes]) => sum + bytes, 0),
      writtenBytes: write.mock.calls.reduce((sum, [, , data]) => sum + data.length, 0),
    };
  };
  try {
    await measure(4);
    const [long, short] = [await measure(8), await measure(4)];
    return {
      submissions: (long.submissions - short.submissions) / 4,
      readBytes: (long.readBytes - short.readBytes) / 4,
      writtenBytes: (long.writtenBytes - short.writtenBytes) / 4,
    };
  } finally {
    for (const spy of [submit, read, write]) spy.mockRestore();
  }
}

const prompt = Array.from({ length: 90 }, (_, index) => (index * 31) % 200);
const continuation = [9, 8, 7, 6, 5, 4];

const methods = ['dense', 'streaming-llm', 'big-bird', 'quest', 'double-sparsity'];

/** Decode steps under a method of its ordinary options. */
function attentionOf(method: string): AttentionOptions {
  return method === 'dense' ? {} : { decode: { method, options: methodCases[method].options } };
}

/** Logits of the continuation, token by token. */
async function decoded(model: Model, attention: AttentionOptions): Promise<Float32Array> {
  const prefix = await model.prefill(prompt);
  const logits = await prefix.logits(continuation, { phase: 'decode', attention });
  const values = (await logits.read()) as Float32Array;
  for (const held of [logits, prefix]) held.dispose();
  return values;
}

describe('a decode step on WebGPU', () => {
  let backend: WebGpuBackend;
  let model: Model;

  beforeAll(async () => {
    const plain = webGpuBackends().find(({ name }) => name === 'webgpu/plain');
    backend = (await plain?.create([])) as WebGpuBackend;
    // More ops than the queue otherwise hands over at a time.
    model = await loadTiny({ backend }, { layers: 6 });
  });

  afterAll(() => {
    model.dispose();
    backend.dispose();
  });

  it('is one submission, and moves the token and its logit and no activations, keys or values', async () => {
    const { submissions, readBytes, writtenBytes } = await trafficPerToken(backend, model, {});
    expect(submissions).toBe(1);
    expect(readBytes).toBe(8);
    // Places of the new token and the page table.
    expect(writtenBytes).toBeLessThan(512);
  });

  it('is one submission under a selector too, which reads nothing back', async () => {
    const decode = { method: 'quest', options: { pageSize: 16, tokenBudget: 48, minPages: 1, denseLayers: 0 } };
    const { submissions, readBytes } = await trafficPerToken(backend, model, { attention: { decode } });
    expect(submissions).toBe(1);
    expect(readBytes).toBe(8);
  });

  it.each(methods)('gives the logits of calling its ops: %s', async (method) => {
    const attention = attentionOf(method);
    const recorded = await decoded(model, attention);
    const record = backend.record.bind(backend);
    backend.record = (step) => ({ replay: step, dispose: () => undefined });
    try {
      expect(recorded).toEqual(await decoded(model, attention));
    } finally {
      backend.record = record;
    }
  });

  it.each(methods)(
    'calls no op and makes nothing on the device once it is recorded, and holds its memory: %s',
    async (method) => {
      const attention = phaseAttention(attentionOf(method), 'decode', model.config, 'test');
      const session = model.session(200);
      (await session.prefill(prompt, { logits: 'last' })).dispose();
      const calls = vi.spyOn(backend, 'run');
      const made = (['createBindGroup', 'createBuffer'] as const).map((name) => vi.spyOn(backend.device, name));
      const steps: { ops: number; made: number; bytes: number }[] = [];
      for (let step = 0; step < 50; step++) {
        for (const spy of [calls, ...made]) spy.mockClear();
        const { logits, best, value } = session.decode([step], attention);
        await best.read();
        steps.push({
          ops: calls.mock.calls.length,
          made: made.reduce((sum, spy) => sum + spy.mock.calls.length, 0),
          bytes: backend.memory().liveBytes,
        });
        for (const tensor of [logits, best, value]) tensor.dispose();
      }
      for (const spy of [calls, ...made]) spy.mockRestore();
      session.dispose();
      const steady = steps.slice(10);
      // Sums of what selectors count are the session's own.
      expect(Math.max(...steady.map(({ ops }) => ops))).toBeLessThanOrEqual(1);
      expect(steady.map(({ made }) => made).filter((count) => count > 0)).toEqual([]);
      expect(new Set(steady.map(({ bytes }) => bytes)).size).toBe(1);
    },
  );

  it('gives its memory back with the session', async () => {
    await decoded(model, {});
    await backend.sync();
    const { liveBytes, buffers } = backend.memory();
    await decoded(model, {});
    await backend.sync();
    expect(backend.memory()).toMatchObject({ liveBytes, buffers });
  });

  it('is one submission where tokens are drawn on the host, which reads the logits', async () => {
    const { submissions, readBytes } = await trafficPerToken(backend, model, { sampling: { temperature: 1, seed: 1 } });
    expect(submissions).toBe(1);
    expect(readBytes).toBe(4 * model.config.vocabularySize);
  });
});
