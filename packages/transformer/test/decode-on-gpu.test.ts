import { webGpuBackends } from '@filigree/testing';
import type { WebGpuBackend } from '@filigree/backend-webgpu';
import { generate, type GenerateOptions, type Model } from '@filigree/transformer';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
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

  it('is one submission where tokens are drawn on the host, which reads the logits', async () => {
    const { submissions, readBytes } = await trafficPerToken(backend, model, { sampling: { temperature: 1, seed: 1 } });
    expect(submissions).toBe(1);
    expect(readBytes).toBe(4 * model.config.vocabularySize);
  });
});
