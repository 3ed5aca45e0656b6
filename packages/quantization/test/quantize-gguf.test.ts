import { createNativeBackend } from '@filigree/backend-native';
import {
  bytesSink,
  bytesSource,
  readGguf,
  writeGguf,
  type GgufFile,
  type GgufTensorEntry,
  type GgufValue,
} from '@filigree/checkpoint';
import { AbortError, Random, type Backend } from '@filigree/core-tensor';
import { decodeRow, NonFiniteWeightError, quantizeGguf, type QuantizeGgufOptions } from '@filigree/quantization';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'filigree-quantize-'));
let backend: Backend;
let source: Uint8Array;

beforeAll(async () => {
  backend = createNativeBackend({ threads: 2 });
  source = await model();
});

afterAll(() => {
  backend.dispose();
  rmSync(folder, { recursive: true });
});

function f32(name: string, shape: readonly number[], value: (index: number) => number): GgufTensorEntry {
  const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, index) => value(index));
  return { name, type: 'F32', shape, data: new Uint8Array(values.buffer) };
}

/** A model of two matrices and a norm; the larger matrix is more than what is converted at a time. */
async function model(bad?: number): Promise<Uint8Array> {
  const random = new Random(5);
  const sink = bytesSink();
  const metadata: [string, GgufValue][] = [
    ['general.architecture', { type: 'string', value: 'llama' }],
    ['general.alignment', { type: 'u32', value: 64 }],
    ['llama.block_count', { type: 'u32', value: 1 }],
    ['split.count', { type: 'u16', value: 1 }],
  ];
  await writeGguf(sink, {
    metadata,
    tensors: [
      f32('blk.0.ffn_down.weight', [4100, 1024], (index) => (index === bad ? Number.NaN : random.nextNormal())),
      f32('blk.0.attn_v.weight', [6, 96], () => random.nextNormal()),
      f32('output_norm.weight', [96], () => 1 + random.nextNormal() / 8),
    ],
  });
  return sink.bytes();
}

async function quantized(bytes: Uint8Array, options: QuantizeGgufOptions): Promise<GgufFile> {
  const sink = bytesSink();
  await quantizeGguf(await readGguf(bytesSource(bytes)), sink, { backend, ...options });
  return readGguf(bytesSource(sink.bytes()));
}

async function weights(file: GgufFile, name: string): Promise<Float32Array> {
  const info = file.tensor(name);
  const count = info.shape.reduce((a, b) => a * b, 1);
  const out = new Float32Array(count);
  decodeRow(info.type, await file.readBytes(info), 0, count, out);
  return out;
}

describe('quantizeGguf', () => {
  it('writes each tensor in its type, close to what it was', async () => {
    const bytes = source;
    const file = await quantized(bytes, { type: 'Q4_K_M' });
    expect(file.tensors.map(({ name, type }) => [name, type])).toEqual([
      ['blk.0.ffn_down.weight', 'Q6_K'],
      ['blk.0.attn_v.weight', 'Q8_0'],
      ['output_norm.weight', 'F32'],
    ]);
    const before = await readGguf(bytesSource(bytes));
    for (const { name } of file.tensors) {
      const [w, v] = [await weights(before, name), await weights(file, name)];
      let [error, power] = [0, 0];
      for (let index = 0; index < w.length; index++) {
        error += (w[index] - v[index]) ** 2;
        power += w[index] ** 2;
      }
      expect(error / power).toBeLessThan(name.startsWith('output') ? 1e-30 : 5e-4);
    }
  });

  it('keeps the metadata but what speaks of types and of parts', async () => {
    const { metadata, alignment } = await quantized(source, { type: 'Q8_0' });
    expect(alignment).toBe(64);
    expect(Object.fromEntries(metadata)).toEqual({
      'general.architecture': { type: 'string', value: 'llama' },
      'general.alignment': { type: 'u32', value: 64 },
      'llama.block_count': { type: 'u32', value: 1 },
      'general.quantization_version': { type: 'u32', value: 2 },
      'general.file_type': { type: 'u32', value: 7 },
    });
  });

  it('writes the same bytes on the reference backend', async () => {
    const file = await readGguf(bytesSource(source));
    const small = { tensors: file.tensors.filter(({ name }) => !name.includes('down')) };
    const tensors = await Promise.all(small.tensors.map(async (info) => ({ ...info, data: await file.readBytes(info) })));
    const sink = bytesSink();
    await writeGguf(sink, { tensors });
    const read = async (options: Partial<QuantizeGgufOptions>): Promise<Uint8Array> => {
      const out = bytesSink();
      await quantizeGguf(await readGguf(bytesSource(sink.bytes())), out, { type: 'Q5_1', ...options });
      return out.bytes();
    };
    expect(Buffer.compare(await read({}), await read({ backend }))).toBe(0);
  });

  it('reports progress up to the bytes of the source', async () => {
    const seen: number[] = [];
    await quantized(source, {
      type: 'Q4_0',
      onProgress: ({ doneBytes, totalBytes }) => seen.push(doneBytes / totalBytes),
    });
    expect(seen.at(-1)).toBe(1);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
  });

  it('names the tensor with a weight that is no number, and leaves no file behind', async () => {
    const [input, output] = [join(folder, 'nan.gguf'), join(folder, 'out.gguf')];
    writeFileSync(input, await model(4_198_000));
    const work = quantizeGguf(input, output, { type: 'Q4_0', backend });
    await expect(work).rejects.toThrow(NonFiniteWeightError);
    await expect(work).rejects.toThrow(/blk\.0\.ffn_down\.weight/);
    expect(readdirSync(folder)).toEqual(['nan.gguf']);
  });

  it('stops when aborted, and leaves the old file as it was', async () => {
    const [input, output] = [join(folder, 'in.gguf'), join(folder, 'old.gguf')];
    writeFileSync(input, source);
    writeFileSync(output, 'old');
    const controller = new AbortController();
    const work = quantizeGguf(input, output, {
      type: 'Q4_0',
      backend,
      signal: controller.signal,
      onProgress: () => {
        controller.abort();
      },
    });
    await expect(work).rejects.toThrow(AbortError);
    expect(existsSync(output)).toBe(true);
    expect(readdirSync(folder).filter((name) => name.includes('tmp'))).toEqual([]);
  });

  it('leaves no buffers behind', async () => {
    const before = backend.memory().liveBytes;
    await quantized(source, { type: 'Q6_K' });
    expect(backend.memory().liveBytes).toBe(before);
  });
});
