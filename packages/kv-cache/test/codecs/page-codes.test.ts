import {
  createReferenceBackend,
  ExecutionError,
  fromArray,
  OptionError,
  Random,
  ShapeError,
  type Backend,
  type Tensor,
} from '@filigree/core-tensor';
import { createNativeBackend } from '@filigree/backend-native';
import {
  codedLayout,
  encodeOp,
  int8Kv,
  kiviKv,
  kvFormats,
  kvSides,
  turboKv,
  type CodedKvCodec,
  type KvSide,
} from '@filigree/kv-cache';
import { describe, expect, it } from 'vitest';

const backend = createReferenceBackend();
const steps = [int8Kv(), kiviKv({ bits: 4 }), kiviKv({ bits: 2 })];
const codecs = [...steps, turboKv({ bits: 4 }), turboKv({ bits: 2 })];

interface Size {
  readonly heads: number;
  readonly pageSize: number;
  readonly dim: number;
}

/** The rows [pages, Hk, P, D] as they come back from codes. */
async function roundTrip(
  codec: CodedKvCodec,
  side: KvSide,
  rows: Float32Array,
  { heads, pageSize, dim }: Size,
  on: Backend = backend,
): Promise<Float32Array> {
  const pages = rows.length / (heads * pageSize * dim);
  const coded = codec.allocate(on, side, { pages, heads, pageSize, dim });
  const ids = fromArray(on, [...Array(pages).keys()], [pages], 'i32');
  codec.encodePages(side, { pages: fromArray(on, rows, [pages, heads, pageSize, dim]), sources: ids, targets: ids, coded });
  return (await codec.decodePages(side, coded, ids, { pageSize, dim }).readNumbers()) as Float32Array;
}

function normal(count: number, seed: number): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: count }, () => random.nextNormal());
}

/** Squared error of the rows over their squares, of the channels that count. */
function relativeError(rows: Float32Array, decoded: Float32Array, counts: (index: number) => boolean = () => true): number {
  let [error, energy] = [0, 0];
  for (let index = 0; index < rows.length; index++) {
    if (!counts(index)) continue;
    error += (rows[index] - decoded[index]) ** 2;
    energy += rows[index] ** 2;
  }
  return error / energy;
}

const square = { heads: 1, pageSize: 64, dim: 64 };

describe('the error of codes of normally distributed rows', () => {
  const rows = normal(16 * 64 * 64, 7);

  it.each([
    [2, 'keys', 0.154],
    [2, 'values', 0.154],
    [4, 'keys', 0.0061],
    [4, 'values', 0.0061],
  ] as const)('is the paper’s grid of %i bits, for %s %d of the energy', async (bits, side, expected) => {
    const error = relativeError(rows, await roundTrip(kiviKv({ bits }), side, rows, square));
    expect(error / expected).toBeGreaterThan(0.95);
    expect(error / expected).toBeLessThan(1.05);
  });

  it.each(kvSides)('is that of 255 steps between ± the largest of 64, for %s in int8', async (side) => {
    // The step is max|x| / 127, the error of a step its square / 12: about 2.4 deviations at most of 64 numbers.
    const error = relativeError(rows, await roundTrip(int8Kv(), side, rows, square));
    expect(error).toBeGreaterThan(2.1e-5);
    expect(error).toBeLessThan(4e-5);
  });
});

describe('outliers in two of 64 channels', () => {
  const rows = normal(16 * 64 * 64, 8).map((value, index) => (index % 64 < 2 ? 20 * value : value));
  const ordinary = (index: number): boolean => index % 64 >= 2;

  it('leave the other channels alone when keys are grouped by channel, and not when they are grouped by entry', async () => {
    const codec = kiviKv({ bits: 2 });
    const perChannel = relativeError(rows, await roundTrip(codec, 'keys', rows, square), ordinary);
    const perEntry = relativeError(rows, await roundTrip(codec, 'values', rows, square), ordinary);
    expect(perChannel).toBeLessThan(0.17);
    expect(perEntry).toBeGreaterThan(3 * perChannel);
  });
});

describe.each(steps)('$id', (codec) => {
  it.each(kvSides)('keeps every number of %s within half a step, outliers and large numbers among them', async (side) => {
    const size = { heads: 2, pageSize: 32, dim: 40 };
    const random = new Random(3);
    const rows = normal(4 * 2 * 32 * 40, 4).map((value) => value * 10 ** random.nextInt(5));
    const decoded = await roundTrip(codec, side, rows, size);
    const levels = { int8: 127, kivi4: 15, kivi2: 3 }[codec.format as 'int8'];
    const largest = rows.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const step = (codec.format === 'int8' ? largest : 2 * largest) / levels;
    for (let index = 0; index < rows.length; index++) expect(Math.abs(rows[index] - decoded[index])).toBeLessThan(0.51 * step);
  });

  it.each(kvSides)('gives constant %s back as half precision has them', async (side) => {
    for (const value of [0, 1, -3.25, 1000.1, -1e-9]) {
      const decoded = await roundTrip(codec, side, new Float32Array(32 * 16).fill(value), { heads: 1, pageSize: 32, dim: 16 });
      for (const found of decoded) expect(Math.abs(found - value)).toBeLessThanOrEqual(2 ** -10 * Math.abs(value) + 2 ** -24);
    }
  });
});

describe.each(codecs)('$id', (codec) => {
  it.each(kvSides)('has the same bytes of %s on every machine', async (side) => {
    const native = createNativeBackend();
    const dim = codec.rotation === undefined ? 80 : 128;
    const rows = normal(2 * 3 * 128 * dim, 9);
    const size = { heads: 3, pageSize: 128, dim };
    expect(await roundTrip(codec, side, rows, size, native)).toEqual(await roundTrip(codec, side, rows, size));
    native.dispose();
  });

  it.each([NaN, Infinity, -Infinity, 65600])('refuses %d, and what is as large on average', async (value) => {
    const size = { pages: 1, heads: 1, pageSize: 32, dim: 16 };
    for (const on of [createReferenceBackend(), createNativeBackend()]) {
      const rows = normal(32 * 16, 1);
      if (codec.rotation === undefined) rows[77] = value;
      else rows.fill(value, 64, 80);
      const coded = codec.allocate(on, 'keys', size);
      const ids = fromArray(on, [0], [1], 'i32');
      codec.encodePages('keys', { pages: fromArray(on, rows, [1, 1, 32, 16]), sources: ids, targets: ids, coded });
      await expect(on.sync()).rejects.toThrow(ExecutionError);
      on.dispose();
    }
  });

  it('counts its bytes by the layout', () => {
    const counts = { int8: [8, 66], kivi4: [4, 40], kivi2: [2, 24], turbo4: [4, 34], turbo2: [2, 18] };
    const [bits, exact] = counts[codec.format as 'int8'];
    expect(codec.bytesPerEntry(64)).toBe(exact);
    expect(codec.bytesPerEntry(64, 'values')).toBe(exact);
    expect(exact).toBe((64 * bits) / 8 + (codec.format.startsWith('kivi') ? 8 : 2));
    for (const side of kvSides)
      expect(codec.allocate(backend, side, { pages: 3, heads: 2, pageSize: 64, dim: 64 }).bytes).toBe(3 * 2 * 64 * exact);
  });
});

describe('what codes are not made of', () => {
  const ids = (): Tensor => fromArray(backend, [0], [1], 'i32');
  const rows = (shape: number[]): Tensor => fromArray(backend, new Float32Array(shape.reduce((a, b) => a * b)), shape);

  it.each(kvFormats)('pages that 32 does not divide, in %s', (format) => {
    expect(() => codedLayout(format, 'keys', 48, 64)).toThrow(OptionError);
  });

  it('pages of another layout', () => {
    const coded = int8Kv().allocate(backend, 'keys', { pages: 1, heads: 1, pageSize: 32, dim: 16 });
    const io = { sources: ids(), targets: ids(), coded };
    expect(() => encodeOp({ ...io, pages: rows([1, 1, 32, 32]) }, { side: 'keys', format: 'int8' })).toThrow(ShapeError);
    expect(() => encodeOp({ ...io, pages: rows([1, 1, 32, 16]) }, { side: 'keys', format: 'kivi4' })).toThrow(ShapeError);
  });

  it('three bits, or groups of another size', () => {
    expect(() => kiviKv({ bits: 3 as 2 })).toThrow(OptionError);
    expect(() => kiviKv({ group: 64 as 32 })).toThrow(OptionError);
  });
});
