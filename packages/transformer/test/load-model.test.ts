import { bytesSource, GgufFormatError, ModelNotFoundError, UnsupportedTensorType } from '@filigree/checkpoint';
import { AbortError, createReferenceBackend, OptionError } from '@filigree/core-tensor';
import { createNativeBackend } from '@filigree/backend-native';
import { tinyModel } from '@filigree/testing';
import { loadModel, ModelFormatError, UnsupportedArchitectureError } from '@filigree/transformer';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadTiny } from './support/tiny.js';

const text = (value: string) => ({ type: 'string', value }) as const;
const u32 = (value: number) => ({ type: 'u32', value }) as const;

describe('loadModel', () => {
  it('loads a mapped file, a read file, a Blob and bytes to the same logits', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'filigree-'));
    const path = join(folder, 'tiny.gguf');
    const bytes = await tinyModel({ type: 'Q4_0' });
    writeFileSync(path, bytes);
    const results: Uint8Array[] = [];
    for (const [source, mmap] of [
      [path, true],
      [path, false],
      [new Blob([bytes as Uint8Array<ArrayBuffer>]), true],
      [bytesSource(bytes), true],
    ] as const) {
      const model = await loadModel(source, { threads: 1, mmap });
      expect(model.memory().repackedBytes).toBeGreaterThan(0);
      expect(model.memory().mappedBytes > 0).toBe(source === path && mmap);
      const logits = await model.logits([1, 2, 3]);
      expect(logits.shape).toEqual([3, model.config.vocabularySize]);
      results.push(await logits.readBytes());
      logits.dispose();
      model.dispose();
    }
    for (const result of results) expect(result).toEqual(results[0]);
    rmSync(folder, { recursive: true });
  });

  it('describes the weights and how they run', async () => {
    const model = await loadTiny({ threads: 1 }, { type: 'Q8_0' });
    const query = model.weights().find(({ name }) => name === 'blk.1.attn_q.weight');
    expect(query).toMatchObject({ type: 'Q8_0', shape: [64, 64], execution: 'tiles' });
    expect(model.memory().fileBytes).toBeGreaterThan(10_000);
    expect(model.memory().tokenizerBytes).toBeGreaterThan(100);
    model.dispose();
  });

  it('gives everything back on dispose', async () => {
    for (const backend of [createReferenceBackend(), createNativeBackend({ threads: 1 })]) {
      const model = await loadTiny({ backend });
      (await model.logits([1, 2])).dispose();
      model.dispose();
      await backend.sync();
      expect(backend.memory()).toMatchObject({ liveBytes: 0, buffers: 0, mappedBytes: 0 });
      backend.dispose();
    }
  });

  it.each([
    ['an unknown architecture', 'general.architecture', text('mamba'), UnsupportedArchitectureError, /"mamba".*llama/s],
    ['a missing size', 'llama.embedding_length', u32(0), ModelFormatError, /hiddenSize is 0/],
    ['more layers than there are', 'llama.block_count', u32(3), ModelFormatError, /no tensor "blk.2/],
    ['an absurd number of layers', 'llama.block_count', u32(4_000_000_000), ModelFormatError, /layers is 4000000000/],
    ['heads that do not divide', 'llama.attention.head_count_kv', u32(3), ModelFormatError, /4 query heads/],
    ['another width', 'llama.feed_forward_length', u32(160), ModelFormatError, /is \[192, 64\].*\[160, 64\]/],
    ['too many rotary channels', 'llama.rope.dimension_count', u32(32), ModelFormatError, /32 rotary/],
  ] as const)('rejects %s and keeps nothing', async (_, key, value, error, message) => {
    const backend = createNativeBackend({ threads: 1 });
    const loading = loadTiny({ backend }, { metadata: [[key, value]] });
    await expect(loading).rejects.toThrow(error);
    await expect(loading).rejects.toThrow(message);
    await backend.sync();
    expect(backend.memory()).toMatchObject({ liveBytes: 0, buffers: 0 });
    backend.dispose();
  });

  it('rejects matrices of a type that holds no weights', async () => {
    const bytes = await tinyModel({ type: 'F16' });
    // The type's id follows name and dimensions in the header: F16 becomes I16, which is as large.
    const name = 'blk.0.attn_q.weight';
    const at = Buffer.from(bytes).indexOf(name) + name.length + 4 + 16;
    expect(bytes[at]).toBe(1);
    bytes[at] = 25;
    await expect(loadModel(bytesSource(bytes))).rejects.toThrow(UnsupportedTensorType);
    await expect(loadModel(bytesSource(bytes))).rejects.toThrow(/"blk.0.attn_q.weight" has type "I16"/);
  });

  it('rejects truncated files, missing files and options out of range', async () => {
    const bytes = await tinyModel();
    await expect(loadModel(bytesSource(bytes.slice(0, bytes.length - 1000)))).rejects.toThrow(GgufFormatError);
    await expect(loadModel('/nonexistent/model.gguf')).rejects.toThrow(ModelNotFoundError);
    await expect(loadTiny({ context: 0 })).rejects.toThrow(OptionError);
    await expect(loadTiny({ context: 100_000 })).rejects.toThrow(/trained for 512/);
    await expect(loadTiny({ kvType: 'i4' as 'f16' })).rejects.toThrow(/kvType/);
    await expect(loadTiny({ kvType: 'turbo4' }, { headDim: 24 })).rejects.toThrow(/head dim is 24, turbo4/);
    await expect(loadTiny({ attentionPrecision: 'f16' as 'bf16' })).rejects.toThrow(/attentionPrecision/);
  });

  it('stops loading when aborted', async () => {
    await expect(loadTiny({ signal: AbortSignal.abort() })).rejects.toThrow(AbortError);
  });

  it('reports progress up to the size of the file', async () => {
    const seen: number[] = [];
    let total = 0;
    const model = await loadTiny({
      onProgress: ({ doneBytes, totalBytes }) => {
        seen.push(doneBytes);
        total = totalBytes;
      },
    });
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(seen.at(-1)).toBe(total);
    model.dispose();
  });
});
