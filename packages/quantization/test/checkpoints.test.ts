import { createNativeBackend } from '@filigree/backend-native';
import { fromArray, fromBytes, seededTensor } from '@filigree/core-tensor';
import {
  CheckpointFormatError,
  convertAwq,
  convertBitsandbytes4,
  convertCheckpointWeight,
  convertFp8,
  convertGptq,
  convertInt8,
  convertNvfp4,
  convertPackQuantized,
  groupedLevel,
  QuantizedLinear,
  rowBytes,
  type CheckpointParts,
} from '@filigree/quantization';
import { describe, expect, it } from 'vitest';
import { f16, f32, i32, packed, randomCodes, randomScales, transposed, u8, weightsOf } from './support/checkpoint-parts.js';

const [N, K] = [32, 192];

/** A GPTQ weight of known codes; `gIdx` gives the group of each input. */
function gptq(bits: number, gIdx: readonly number[], change: { v1?: boolean; sym?: boolean } = {}) {
  const groups = Math.max(...gIdx) + 1;
  const codes = randomCodes(bits, N, K, bits);
  const scales = randomScales(3, groups, N);
  const middle = 2 ** (bits - 1);
  const zeros = randomCodes(5, groups, N, bits).map((row) => row.map((zero) => (change.sym ? middle : Math.max(1, zero))));
  const stored = zeros.map((row) => row.map((zero) => (change.v1 ? zero - 1 : zero)));
  const parts: CheckpointParts = {
    qweight: i32(transposed(codes.map((row) => packed(row, bits))).flat(), [(K * bits) / 32, N]),
    qzeros: i32(
      stored.flatMap((row) => packed(row, bits)),
      [groups, (N * bits) / 32],
    ),
    scales: f16(scales.flat(), [groups, N]),
    g_idx: i32(gIdx, [K]),
  };
  const weights = codes.map((row, n) => row.map((code, k) => scales[gIdx[k]][n] * (code - zeros[gIdx[k]][n])));
  return { parts, weights };
}

const inOrder = (size: number): number[] => Array.from({ length: K }, (_, k) => Math.floor(k / size));
/** Groups of 64, of inputs that lie far apart. */
const actOrder = Array.from({ length: K }, (_, k) => (k * 7) % 3);

describe('GPTQ', () => {
  it.each([2, 3, 4, 8])('weights of %i bits are scale · (q − z), whatever the version', (bits) => {
    for (const v1 of [true, false]) {
      const { parts, weights } = gptq(bits, inOrder(64), { v1 });
      const converted = convertGptq('w', parts, { bits, sym: false, checkpointFormat: v1 ? 'gptq' : 'gptq_v2' });
      expect(converted.type).toBe(`INT${bits}_G64`);
      expect(weightsOf(converted)).toEqual(weights);
      expect(converted.blocks.length).toBe(N * rowBytes(converted.type, K));
    }
  });

  it.each([true, false])('symmetric checkpoints show their version, whatever they state (v1: %s)', (v1) => {
    const { parts, weights } = gptq(4, inOrder(32), { v1, sym: true });
    expect(weightsOf(convertGptq('w', parts, { bits: 4, checkpointFormat: v1 ? 'gptq_v2' : 'gptq' }))).toEqual(weights);
  });

  it('inputs whose groups are out of order are sorted, and x with them', () => {
    const { parts, weights } = gptq(4, actOrder);
    const converted = convertGptq('w', parts, { bits: 4, checkpointFormat: 'gptq_v2' });
    expect(converted.type).toBe('INT4_G64');
    expect(Array.from(converted.inputOrder ?? []).toSorted((a, b) => a - b)).toEqual(inOrder(1));
    expect(weightsOf(converted)).toEqual(weights);
  });

  it('one group per row, and groups of 128, take the largest blocks that fit', () => {
    expect(convertGptq('w', gptq(4, inOrder(K)).parts, { bits: 4, checkpointFormat: 'gptq_v2' }).type).toBe('INT4_G64');
  });

  it('words are those of the format', () => {
    expect(packed([0, 1, 2, 3, 4, 5, 6, 7], 4)).toEqual([0x76543210]);
  });

  it.each<[string, Partial<Record<string, unknown>>, RegExp]>([
    ['an index of groups that is out of range', { g_idx: i32(inOrder(64).fill(9, 5, 6), [K]) }, /g_idx\[5\] is 9/],
    ['scales of another shape', { scales: f16(Array<number>(96).fill(1), [4, 24]) }, /scales is \[4, 24\]/],
    ['no zero points', { qzeros: undefined }, /no qzeros/],
    ['words that are floats', { qweight: f32(Array<number>(24 * N).fill(0), [24, N]) }, /qweight is F32/],
    ['a vector', { qweight: i32([1, 2, 3], [3]) }, /two axes/],
    [
      'groups of 16',
      {
        g_idx: i32(inOrder(16), [K]),
        scales: f16(Array<number>(12 * N).fill(1), [12, N]),
        qzeros: i32(Array<number>(12 * 4).fill(0), [12, 4]),
      },
      /groups of 16/,
    ],
  ])('refuses %s', (_, change, message) => {
    const { parts } = gptq(4, inOrder(64));
    const convert = (): unknown => convertGptq('blk.0.attn_q', { ...parts, ...change } as CheckpointParts, { bits: 4 });
    expect(convert).toThrow(CheckpointFormatError);
    expect(convert).toThrow(message);
    expect(convert).toThrow(/blk\.0\.attn_q/);
  });

  it('refuses five bits', () => {
    expect(() => convertGptq('w', gptq(4, inOrder(64)).parts, { bits: 5 })).toThrow(/5 bits/);
  });
});

describe('AWQ', () => {
  const order = [0, 2, 4, 6, 1, 3, 5, 7];
  const words = (row: readonly number[]): number[] =>
    Array.from(
      { length: row.length / 8 },
      (_, c) =>
        packed(
          order.map((o) => row[8 * c + o]),
          4,
        )[0],
    );

  it('weights are scale · (q − z)', () => {
    const codes = randomCodes(1, N, K, 4);
    const [scales, zeros] = [randomScales(2, 3, N), randomCodes(3, 3, N, 4)];
    const converted = convertAwq(
      'w',
      {
        qweight: i32(transposed(codes).flatMap(words), [K, N / 8]),
        qzeros: i32(zeros.flatMap(words), [3, N / 8]),
        scales: f16(scales.flat(), [3, N]),
      },
      { bits: 4 },
    );
    expect(converted.type).toBe('INT4_G64');
    const group = (k: number): number => Math.floor(k / 64);
    expect(weightsOf(converted)).toEqual(
      codes.map((row, n) => row.map((code, k) => scales[group(k)][n] * (code - zeros[group(k)][n]))),
    );
  });

  it('words are those of the format', () => {
    expect(words([0, 1, 2, 3, 4, 5, 6, 7])).toEqual([0x75316420]);
  });
});

describe('compressed-tensors', () => {
  it.each([4, 8])('pack-quantized weights of %i bits are scale · (q − z)', (bits) => {
    const middle = 2 ** (bits - 1);
    const codes = randomCodes(1, N, K, bits);
    const scales = randomScales(2, N, 3);
    const zeros = randomCodes(3, N, 3, bits);
    const shape = { weight_shape: i32([N, K], [2]), weight_scale: f16(scales.flat(), [N, 3]) };
    const weight_packed = i32(
      codes.flatMap((row) => packed(row, bits)),
      [N, (K * bits) / 32],
    );
    const weight_zero_point = i32(transposed(transposed(zeros).map((column) => packed(column, bits))).flat(), [
      (N * bits) / 32,
      3,
    ]);
    const expected = (zero: (n: number, g: number) => number): number[][] =>
      codes.map((row, n) => row.map((code, k) => scales[n][Math.floor(k / 64)] * (code - zero(n, Math.floor(k / 64)))));
    expect(weightsOf(convertPackQuantized('w', { ...shape, weight_packed }))).toEqual(expected(() => middle));
    expect(weightsOf(convertPackQuantized('w', { ...shape, weight_packed, weight_zero_point }))).toEqual(
      expected((n, g) => zeros[n][g]),
    );
  });

  it('words are those of the format', () => {
    const [word] = packed(
      [-8, -7, -6, -5, -4, -3, -2, -1].map((value) => value + 8),
      4,
    );
    expect(word).toBe(0x76543210);
  });

  it('signed bytes take scales of the tensor, of rows and of groups, and zero points', () => {
    const codes = randomCodes(1, N, K, 8).map((row) => row.map((code) => code - 128));
    const weight = u8(
      codes.flat().map((code) => code & 255),
      [N, K],
      'I8',
    );
    const weights = (parts: CheckpointParts): number[][] => weightsOf(convertInt8('w', { weight, ...parts }));
    expect(weights({ weight_scale: f32([0.5], [1]) })).toEqual(codes.map((row) => row.map((code) => 0.5 * code)));
    const rows = randomScales(2, N, 1);
    expect(weights({ weight_scale: f16(rows.flat(), [N, 1]) })).toEqual(
      codes.map((row, n) => row.map((code) => rows[n][0] * code)),
    );
    const groups = randomScales(2, N, 6);
    const zeros = u8(Array<number>(N * 6).fill(3), [N, 6], 'I8');
    expect(weights({ weight_scale: f16(groups.flat(), [N, 6]), weight_zero_point: zeros })).toEqual(
      codes.map((row, n) => row.map((code, k) => groups[n][Math.floor(k / 32)] * (code - 3))),
    );
    expect(
      weights({
        SCB: f32(
          rows.map(([scale]) => 127 * scale),
          [N],
        ),
      }),
    ).toEqual(codes.map((row, n) => row.map((code) => rows[n][0] * code)));
  });

  it.each([
    ['F8_E4M3', 'E4M3'],
    ['F8_E5M2', 'E5M2'],
  ] as const)('eight-bit floats %s take scales of rows and of blocks of 128', (dtype, kind) => {
    const codes = randomCodes(1, 160, 256, 7);
    const weight = u8(
      codes.flat().map((code) => code & 0x3f),
      [160, 256],
      dtype,
    );
    const level = (code: number): number => groupedLevel(kind, code & 0x3f);
    const rows = randomScales(2, 160, 1);
    const byRows = convertFp8('w', { weight, weight_scale: f16(rows.flat(), [160, 1]) });
    expect(byRows.type).toBe(`${kind}_G128`);
    expect(weightsOf(byRows)).toEqual(codes.map((row, n) => row.map((code) => rows[n][0] * level(code))));
    const grid = randomScales(3, 2, 2);
    expect(weightsOf(convertFp8('w', { weight, weight_scale_inv: f32(grid.flat(), [2, 2]) }))).toEqual(
      codes.map((row, n) => row.map((code, k) => grid[Math.floor(n / 128)][Math.floor(k / 128)] * level(code))),
    );
    expect(() => convertFp8('w', { weight, weight_scale: f32([1, 2, 3], [3]) })).toThrow(/weight_scale is \[3\]/);
  });

  it('NVFP4 divides by its global scale, ModelOpt multiplies', () => {
    const e2m1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6];
    const codes = randomCodes(1, N, K, 4);
    const bytes = codes.flatMap((row) => Array.from({ length: K / 2 }, (_, i) => row[2 * i] | (row[2 * i + 1] << 4)));
    const scales = randomCodes(2, N, K / 16, 6);
    const weight_scale = u8(scales.flat(), [N, K / 16], 'F8_E4M3');
    const expected = (global: number): number[][] =>
      codes.map((row, n) =>
        row.map((code, k) => global * groupedLevel('E4M3', scales[n][k >> 4]) * (code & 8 ? -1 : 1) * e2m1[code & 7] + 0),
      );
    const divided = convertNvfp4('w', {
      weight_packed: u8(bytes, [N, K / 2]),
      weight_scale,
      weight_global_scale: f32([16], [1]),
    });
    expect(divided).toMatchObject({ type: 'NVFP4', scale: 1 / 16 });
    expect(weightsOf(divided)).toEqual(expected(1 / 16));
    const multiplied = convertNvfp4('w', { weight: u8(bytes, [N, K / 2]), weight_scale, weight_scale_2: f32([0.25], []) });
    expect(weightsOf(multiplied)).toEqual(expected(0.25));
  });
});

describe('bitsandbytes', () => {
  const state = (more: Record<string, unknown> = {}, type = 'nf4') => ({
    [`weight.quant_state.bitsandbytes__${type}`]: u8(
      new TextEncoder().encode(JSON.stringify({ quant_type: type, blocksize: 64, shape: [N, K], dtype: 'float16', ...more })),
      [100],
    ),
  });
  const codes = randomCodes(1, N, K, 4);
  const weight = u8(
    Array.from({ length: (N * K) / 2 }, (_, i) => (codes.flat()[2 * i] << 4) | codes.flat()[2 * i + 1]),
    [(N * K) / 2, 1],
  );
  const blocks = (N * K) / 64;
  const expected = (kind: 'NF4' | 'FP4', scale: (block: number) => number): number[][] =>
    codes.map((row, n) => row.map((code, k) => scale(Math.floor((n * K + k) / 64)) * groupedLevel(kind, code) + 0));

  it.each([
    ['nf4', 'NF4'],
    ['fp4', 'FP4'],
  ] as const)('%s weights are level times the largest magnitude of a block', (type, kind) => {
    const absmax = randomScales(2, 1, blocks)[0];
    const converted = convertBitsandbytes4('w', { weight, 'weight.absmax': f32(absmax, [blocks]), ...state({}, type) });
    expect(converted.type).toBe(`${kind}_G64`);
    expect(weightsOf(converted)).toEqual(expected(kind, (block) => absmax[block]));
  });

  it('magnitudes that are quantised themselves are looked up', () => {
    const map = Array.from({ length: 256 }, (_, code) => (code - 127) / 128);
    const nested = randomCodes(4, 1, blocks, 8)[0];
    const converted = convertBitsandbytes4('w', {
      weight,
      'weight.absmax': u8(nested, [blocks]),
      'weight.nested_quant_map': f32(map, [256]),
      'weight.nested_absmax': f32([0.5], [1]),
      ...state({ nested_blocksize: 256, nested_offset: 0.25 }),
    });
    expect(weightsOf(converted)).toEqual(expected('NF4', (block) => 0.5 * map[nested[block]] + 0.25));
  });

  it('blocks that run over the end of rows are cut into groups that do not', () => {
    const narrow = u8(weight.bytes.subarray(0, (8 * 96) / 2), [384, 1]);
    const converted = convertBitsandbytes4('w', {
      weight: narrow,
      'weight.absmax': f32(randomScales(2, 1, 12)[0], [12]),
      ...state({ shape: [8, 96] }),
    });
    expect(converted.type).toBe('NF4_G32');
    const flat = weightsOf(converted).flat();
    const scales = randomScales(2, 1, 12)[0];
    expect(flat).toEqual(
      codes
        .flat()
        .slice(0, 768)
        .map((code, at) => scales[at >> 6] * groupedLevel('NF4', code) + 0),
    );
  });

  it.each<[string, Record<string, unknown>, RegExp]>([
    ['a shape that is not that of the codes', { shape: [N, 2 * K] }, /bytes/],
    ['no shape', { shape: 'large' }, /cannot be run/],
    ['a block size of zero', { blocksize: 0 }, /block size 0/],
  ])('refuses %s', (_, more, message) => {
    const convert = (): unknown =>
      convertBitsandbytes4('w', { weight, 'weight.absmax': f32(randomScales(2, 1, blocks)[0], [blocks]), ...state(more) });
    expect(convert).toThrow(CheckpointFormatError);
    expect(convert).toThrow(message);
  });
});

describe('a converted weight', () => {
  it('runs as a linear layer, its inputs gathered in the order of the groups', async () => {
    const { parts, weights } = gptq(4, actOrder);
    const { type, blocks, inputOrder } = convertCheckpointWeight('w', parts, {
      method: 'gptq',
      bits: 4,
      checkpointFormat: 'gptq_v2',
    });
    const backend = createNativeBackend({ threads: 2, fallback: 'error' });
    for (const tokens of [1, 5]) {
      const x = seededTensor(7, [tokens, K]);
      const linear = new QuantizedLinear(fromBytes(backend, blocks, [N, rowBytes(type, K)], 'u8'), {
        type,
        inFeatures: K,
        outFeatures: N,
        activations: 'none',
        inputOrder: inputOrder && fromArray(backend, inputOrder, [K], 'i32'),
      });
      const y = await linear.forward(fromArray(backend, x.data, x.shape)).readNumbers();
      for (let t = 0; t < tokens; t++)
        for (let n = 0; n < N; n++)
          expect(y[t * N + n]).toBeCloseTo(
            weights[n].reduce((sum, w, k) => sum + w * x.data[t * K + k], 0),
            3,
          );
      linear.dispose();
    }
    backend.dispose();
  });

  it('is of no format that is known where its parts are none', () => {
    expect(() => convertCheckpointWeight('w', { weight: f32([1], [1, 1]) }, { method: 'new' })).toThrow(/F32/);
    expect(() => convertCheckpointWeight('w', {}, { method: 'new' })).toThrow(CheckpointFormatError);
  });
});
