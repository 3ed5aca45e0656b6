import { fileSource, readSafetensors, writeSafetensors, type SafetensorsTensorEntry } from '@filigree/checkpoint';
import { bf16ToNumber, f16ToNumber, numberToF16 } from '@filigree/core-tensor';
import { CheckpointFormatError, groupedLevel } from '@filigree/quantization';
import { loadModel, type Model } from '@filigree/transformer';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { backends } from './support/tiny.js';

const source = join(import.meta.dirname, 'goldens/llama');
const folder = mkdtempSync(join(tmpdir(), 'filigree-quantized-checkpoints-'));
const tokens = [3, 14, 15, 92, 6, 5, 35];
const group = 32;

afterAll(() => {
  rmSync(folder, { recursive: true });
});

type Part = Omit<SafetensorsTensorEntry, 'name'>;

/** A way of quantising: the parts of a weight in a format, and the weights that they stand for. */
interface Format {
  readonly config: Record<string, unknown>;
  quantize(weights: Float32Array, shape: readonly [number, number]): { parts: Record<string, Part>; weights: Float32Array };
}

const bytesOf = (array: ArrayBufferView): Uint8Array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
const i32 = (values: Int32Array, shape: readonly number[]): Part => ({ dtype: 'I32', shape, data: bytesOf(values) });
const f16 = (values: Float32Array, shape: readonly number[]): Part => ({
  dtype: 'F16',
  shape,
  data: bytesOf(Uint16Array.from(values, numberToF16)),
});
const half = (value: number): number => f16ToNumber(numberToF16(value));

/** Codes 0 … 15 around 8, and one scale per `group` inputs, scales [G][N]. */
function fourBits(weights: Float32Array, [rows, columns]: readonly [number, number]) {
  const groups = columns / group;
  const [codes, scales, values] = [
    new Uint8Array(rows * columns),
    new Float32Array(groups * rows),
    new Float32Array(rows * columns),
  ];
  for (let n = 0; n < rows; n++) {
    for (let g = 0; g < groups; g++) {
      const part = weights.subarray(n * columns + g * group, n * columns + (g + 1) * group);
      const scale = half(part.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-6) / 7.5);
      scales[g * rows + n] = scale;
      for (let e = 0; e < group; e++) {
        const code = Math.min(15, Math.max(0, Math.round(part[e] / scale) + 8));
        codes[n * columns + g * group + e] = code;
        values[n * columns + g * group + e] = scale * (code - 8);
      }
    }
  }
  return { groups, codes, scales, values };
}

const formats: Readonly<Record<string, Format>> = {
  gptq: {
    config: { quant_method: 'gptq', bits: 4, group_size: group, sym: true, checkpoint_format: 'gptq' },
    quantize(weights, [rows, columns]) {
      const { groups, codes, scales, values } = fourBits(weights, [rows, columns]);
      const words = new Int32Array((columns / 8) * rows);
      for (let n = 0; n < rows; n++)
        for (let k = 0; k < columns; k++) words[(k >> 3) * rows + n] |= codes[n * columns + k] << (4 * (k & 7));
      return {
        parts: {
          qweight: i32(words, [columns / 8, rows]),
          qzeros: i32(new Int32Array((groups * rows) / 8).fill(0x77777777), [groups, rows / 8]),
          scales: f16(scales, [groups, rows]),
          g_idx: i32(
            Int32Array.from({ length: columns }, (_, k) => Math.floor(k / group)),
            [columns],
          ),
        },
        weights: values,
      };
    },
  },
  awq: {
    config: { quant_method: 'awq', bits: 4, group_size: group, version: 'gemm' },
    quantize(weights, [rows, columns]) {
      const { groups, codes, scales, values } = fourBits(weights, [rows, columns]);
      const words = new Int32Array(columns * (rows / 8));
      const place = [0, 4, 1, 5, 2, 6, 3, 7];
      for (let n = 0; n < rows; n++)
        for (let k = 0; k < columns; k++) words[k * (rows / 8) + (n >> 3)] |= codes[n * columns + k] << (4 * place[n & 7]);
      return {
        parts: {
          qweight: i32(words, [columns, rows / 8]),
          qzeros: i32(new Int32Array((groups * rows) / 8).fill(0x88888888), [groups, rows / 8]),
          scales: f16(scales, [groups, rows]),
        },
        weights: values,
      };
    },
  },
  'compressed-tensors': {
    config: { quant_method: 'compressed-tensors', format: 'pack-quantized' },
    quantize(weights, [rows, columns]) {
      const { groups, codes, scales, values } = fourBits(weights, [rows, columns]);
      const words = new Int32Array(rows * (columns / 8));
      for (let at = 0; at < codes.length; at++) words[at >> 3] |= codes[at] << (4 * (at & 7));
      const byRow = Float32Array.from(scales, (_, at) => scales[(at % groups) * rows + Math.floor(at / groups)]);
      return {
        parts: {
          weight_packed: i32(words, [rows, columns / 8]),
          weight_scale: f16(byRow, [rows, groups]),
          weight_shape: i32(Int32Array.of(rows, columns), [2]),
        },
        weights: values,
      };
    },
  },
  bitsandbytes: {
    config: { quant_method: 'bitsandbytes', load_in_4bit: true, bnb_4bit_quant_type: 'nf4' },
    quantize(weights, [rows, columns]) {
      const levels = Array.from({ length: 16 }, (_, code) => groupedLevel('NF4', code));
      const scales = Float32Array.from({ length: weights.length / 64 }, (_, block) =>
        weights.subarray(64 * block, 64 * (block + 1)).reduce((most, value) => Math.max(most, Math.abs(value)), 0),
      );
      const packed = new Uint8Array(weights.length / 2);
      const values = weights.map((value, at) => {
        const scale = scales[at >> 6];
        const distances = levels.map((level) => Math.abs(level * scale - value));
        const code = distances.indexOf(Math.min(...distances));
        packed[at >> 1] |= at & 1 ? code : code << 4;
        return Math.fround(levels[code] * scale);
      });
      const state = new TextEncoder().encode(JSON.stringify({ quant_type: 'nf4', blocksize: 64, shape: [rows, columns] }));
      return {
        parts: {
          weight: { dtype: 'U8', shape: [packed.length, 1], data: packed },
          'weight.absmax': { dtype: 'F32', shape: [scales.length], data: bytesOf(scales) },
          'weight.quant_state.bitsandbytes__nf4': { dtype: 'U8', shape: [state.length], data: state },
        },
        weights: values,
      };
    },
  },
  fp8: {
    config: { quant_method: 'fp8', weight_block_size: [128, 128] },
    quantize(weights, [rows, columns]) {
      const scale = weights.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 448;
      const levels = Array.from({ length: 127 }, (_, code) => groupedLevel('E4M3', code));
      const codes = new Uint8Array(weights.length);
      const values = weights.map((value, at) => {
        const distances = levels.map((level) => Math.abs(level * scale - Math.abs(value)));
        const code = distances.indexOf(Math.min(...distances));
        codes[at] = code | (value < 0 ? 128 : 0);
        return Math.fround(Math.fround(scale) * levels[code] * (value < 0 ? -1 : 1));
      });
      const grid = [Math.ceil(rows / 128), Math.ceil(columns / 128)];
      const scales = new Float32Array(grid[0] * grid[1]).fill(scale);
      return {
        parts: {
          weight: { dtype: 'F8_E4M3', shape: [rows, columns], data: codes },
          weight_scale_inv: { dtype: 'F32', shape: grid, data: bytesOf(scales) },
        },
        weights: values,
      };
    },
  },
};

/** Writes the model with its projections quantised, and one with the weights that they stand for. */
async function writeBoth(name: string, { config, quantize }: Format): Promise<{ quantized: string; plain: string }> {
  const file = await readSafetensors(await fileSource(join(source, 'model.safetensors')));
  const [quantized, plain] = [join(folder, name), join(folder, `${name}-plain`)];
  const written: Record<string, SafetensorsTensorEntry[]> = { [quantized]: [], [plain]: [] };
  for (const info of file.tensors) {
    const data = await file.readBytes(info);
    const entry = { name: info.name, dtype: info.dtype, shape: info.shape, data };
    const layer = /^(.*_proj)\.weight$/.exec(info.name)?.[1];
    if (layer === undefined) {
      written[quantized].push(entry);
      written[plain].push(entry);
      continue;
    }
    const [rows, columns] = info.shape;
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const weights = Float32Array.from({ length: rows * columns }, (_, at) =>
      info.dtype === 'F32' ? view.getFloat32(4 * at, true) : bf16ToNumber(view.getUint16(2 * at, true)),
    );
    const made = quantize(weights, [rows, columns]);
    for (const [part, value] of Object.entries(made.parts)) written[quantized].push({ name: `${layer}.${part}`, ...value });
    written[plain].push({ name: info.name, dtype: 'F32', shape: info.shape, data: bytesOf(made.weights) });
  }
  await file.close();
  for (const [target, tensors] of Object.entries(written)) {
    cpSync(source, target, { recursive: true, filter: (path) => !path.endsWith('.safetensors') });
    await writeSafetensors(join(target, 'model.safetensors'), tensors, { format: 'pt' });
  }
  const settings = JSON.parse(readFileSync(join(source, 'config.json'), 'utf8')) as Record<string, unknown>;
  writeFileSync(join(quantized, 'config.json'), JSON.stringify({ ...settings, quantization_config: config }));
  return { quantized, plain };
}

async function logitsOf(model: Model): Promise<Float32Array> {
  const logits = await model.logits(tokens);
  const values = (await logits.read()) as Float32Array;
  logits.dispose();
  return values;
}

describe.each(Object.entries(formats))('a checkpoint in %s', (name, format) => {
  it.each(backends)('has the logits of the weights that it stands for, on %s', async (_, createBackend) => {
    const { quantized, plain } = await writeBoth(name, format);
    const backend = createBackend();
    const options = { backend, activations: 'none', kvType: 'f32' } as const;
    const [ours, theirs] = [await loadModel(quantized, options), await loadModel(plain, options)];
    const [found, expected] = [await logitsOf(ours), await logitsOf(theirs)];
    const power = expected.reduce((sum, value) => sum + value * value, 0);
    const error = found.reduce((sum, value, at) => sum + (value - expected[at]) ** 2, 0);
    expect(error / power).toBeLessThan(1e-9);
    expect(ours.weights().some(({ type }) => /^(INT4|NF4|E4M3)_G/.test(type))).toBe(true);
    ours.dispose();
    theirs.dispose();
    expect(backend.memory().liveBytes).toBe(0);
    backend.dispose();
  });
});

it('a weight whose parts do not fit is named', async () => {
  const { quantized } = await writeBoth('broken', formats.gptq);
  const file = await readSafetensors(await fileSource(join(quantized, 'model.safetensors')));
  const tensors: SafetensorsTensorEntry[] = [];
  for (const info of file.tensors.filter((tensor) => !tensor.name.endsWith('layers.1.self_attn.v_proj.scales')))
    tensors.push({ name: info.name, dtype: info.dtype, shape: info.shape, data: await file.readBytes(info) });
  await file.close();
  await writeSafetensors(join(quantized, 'model.safetensors'), tensors, { format: 'pt' });
  const [, createBackend] = backends[0];
  const backend = createBackend();
  const load = loadModel(quantized, { backend });
  await expect(load).rejects.toThrow(CheckpointFormatError);
  await expect(load).rejects.toThrow(/layers\.1\.self_attn\.v_proj.*no scales/);
  expect(backend.memory().liveBytes).toBe(0);
  backend.dispose();
});

it('token embeddings that lookups cannot decode are refused', async () => {
  const { plain } = await writeBoth('embeddings', formats.fp8);
  const target = join(folder, 'nvfp4-embeddings');
  cpSync(plain, target, { recursive: true });
  const file = await readSafetensors(await fileSource(join(plain, 'model.safetensors')));
  const tensors: SafetensorsTensorEntry[] = [];
  for (const info of file.tensors) {
    const layer = 'model.embed_tokens';
    if (info.name !== `${layer}.weight`) {
      tensors.push({ name: info.name, dtype: info.dtype, shape: info.shape, data: await file.readBytes(info) });
      continue;
    }
    const [rows, columns] = info.shape;
    const part = (name: string, dtype: Part['dtype'], shape: readonly number[], data: Uint8Array): void => {
      tensors.push({ name: `${layer}.${name}`, dtype, shape, data });
    };
    part('weight_packed', 'U8', [rows, columns / 2], new Uint8Array((rows * columns) / 2));
    part('weight_scale', 'F8_E4M3', [rows, columns / 16], new Uint8Array((rows * columns) / 16));
    part('weight_global_scale', 'F32', [1], bytesOf(Float32Array.of(2)));
  }
  await file.close();
  await writeSafetensors(join(target, 'model.safetensors'), tensors, { format: 'pt' });
  const settings = JSON.parse(readFileSync(join(source, 'config.json'), 'utf8')) as Record<string, unknown>;
  const quantization = { quant_method: 'compressed-tensors', format: 'nvfp4-pack-quantized' };
  writeFileSync(join(target, 'config.json'), JSON.stringify({ ...settings, quantization_config: quantization }));
  const [, createBackend] = backends[0];
  const backend = createBackend();
  await expect(loadModel(target, { backend })).rejects.toThrow(/token embeddings have a factor/);
  expect(backend.memory().liveBytes).toBe(0);
  backend.dispose();
});
