import { createNativeBackend } from '@filigree/backend-native';
import { fromArray, OptionError, Random, scope, ShapeError } from '@filigree/core-tensor';
import { kvSides, rotateOp, turboKv, type CodedKvCodec, type KvSide } from '@filigree/kv-cache';
import * as fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { levelsOf } from '../../src/codecs/turbo-levels.js';

const backend = createNativeBackend({ threads: 1, fallback: 'error' });
const [dim, pageSize] = [64, 64];

afterAll(() => {
  backend.dispose();
});

function normal(count: number, seed: number): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: count }, () => random.nextNormal());
}

/** Rows [n, D], whole pages of them, as they come back from codes. */
async function roundTrip(codec: CodedKvCodec, side: KvSide, rows: Float32Array): Promise<Float32Array> {
  const pages = rows.length / (pageSize * dim);
  const decoded = scope(() => {
    const coded = codec.allocate(backend, side, { pages, heads: 1, pageSize, dim });
    const ids = fromArray(backend, [...Array(pages).keys()], [pages], 'i32');
    codec.encodePages(side, { pages: fromArray(backend, rows, [pages, 1, pageSize, dim]), sources: ids, targets: ids, coded });
    return codec.decodePages(side, coded, ids, { pageSize, dim });
  });
  const found = (await decoded.readNumbers()) as Float32Array;
  decoded.dispose();
  return found;
}

async function rotated(x: Float32Array, shape: readonly number[], seed: number, inverse: boolean): Promise<Float32Array> {
  const y = scope(() => rotateOp({ x: fromArray(backend, x, shape) }, { seed, inverse }).y);
  const found = (await y.readNumbers()) as Float32Array;
  y.dispose();
  return found;
}

const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => Array.from(a).reduce((sum, x, i) => sum + x * b[i], 0);

function relativeError(rows: Float32Array, decoded: Float32Array): number {
  return (
    dot(
      rows.map((value, index) => value - decoded[index]),
      rows.map((value, index) => value - decoded[index]),
    ) / dot(rows, rows)
  );
}

describe('the rotation', () => {
  it('keeps lengths and angles, and is undone by its inverse', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(0xffffffff), fc.integer({ min: 0, max: 10 }), fc.nat(999), async (seed, log, from) => {
        const size = 2 ** log;
        const [a, b] = [normal(size, from), normal(size, from + 1)];
        const both = await rotated(Float32Array.of(...a, ...b), [2, size], seed, false);
        const scale = Math.sqrt(dot(a, a) * dot(b, b)) + 1e-6;
        expect(Math.abs(dot(both.subarray(0, size), both.subarray(size)) - dot(a, b)) / scale).toBeLessThan(1e-5);
        expect(Math.abs(dot(both, both) / (dot(a, a) + dot(b, b)) - 1)).toBeLessThan(1e-5);
        const back = await rotated(both, [2, size], seed, true);
        for (let index = 0; index < size; index++) expect(Math.abs(back[index] - a[index])).toBeLessThan(1e-5);
      }),
      { numRuns: 60 },
    );
  });

  it('is another one for another seed', async () => {
    const row = normal(dim, 1);
    expect(await rotated(row, [dim], 1, false)).not.toEqual(await rotated(row, [dim], 2, false));
  });

  it('takes last axes of powers of two, and seeds of 32 bits', () => {
    const x = fromArray(backend, new Float32Array(96), [96]);
    expect(() => rotateOp({ x }, { seed: 0 })).toThrow(ShapeError);
    const fine = fromArray(backend, new Float32Array(64), [64]);
    expect(() => rotateOp({ x: fine }, { seed: -1 })).toThrow(OptionError);
    expect(() => rotateOp({ x: fine }, { seed: 0.5 })).toThrow(OptionError);
  });
});

/** The normal distribution between two numbers: mass, mean times mass, and mean square times mass, by trapezoids. */
function moments(low: number, high: number): readonly [number, number, number] {
  const steps = 4000;
  const [from, to] = [Math.max(low, -9), Math.min(high, 9)];
  const sums: [number, number, number] = [0, 0, 0];
  for (let step = 0; step <= steps; step++) {
    const x = from + ((to - from) * step) / steps;
    const density = Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
    const weight = (density * (to - from)) / (step === 0 || step === steps ? 2 * steps : steps);
    for (let power = 0; power < 3; power++) sums[power] += weight * x ** power;
  }
  return sums;
}

const errors = { turbo4: 0.0095, turbo2: 0.1175 };

describe.each(['turbo4', 'turbo2'] as const)('levels of %s', (format) => {
  it('are the means of what is nearest to them, and leave the error of the paper', () => {
    const { values, thresholds } = levelsOf(format) ?? { values: [], thresholds: [] };
    let error = 0;
    for (const [code, level] of values.entries()) {
      const [mass, mean, square] = moments(
        code === 0 ? -Infinity : (values[code - 1] + level) / 2,
        code === values.length - 1 ? Infinity : (values[code + 1] + level) / 2,
      );
      expect(Math.abs(mean / mass - level)).toBeLessThan(1e-4);
      error += square - 2 * level * mean + level * level * mass;
      if (code > 0) expect(Math.abs(thresholds[code - 1] - (values[code - 1] + level) / 2)).toBeLessThan(2 ** -11);
    }
    expect(Math.abs(error - errors[format])).toBeLessThan(1e-4);
  });
});

describe.each([turboKv({ bits: 4, seed: 3 }), turboKv({ bits: 2, seed: 3 })])('$id', (codec) => {
  const bits = codec.format === 'turbo4' ? 4 : 2;
  const expected = bits === 4 ? errors.turbo4 : errors.turbo2;
  const rows = normal(16 * 64 * 64, 7);
  const outliers = rows.map((value, index) => (index % 64 < 2 ? 20 * value : value));

  it.each([
    ['normally distributed', rows],
    ['with outliers in two channels', outliers],
    ['of one direction', rows.map((_, index) => (1 + Math.floor(index / 64)) * Math.sin(index % 64))],
  ])('leaves the error of its levels of rows %s', async (_, given) => {
    // One direction is one sample of the rotation; two channels are coarser than a normal distribution.
    const error = relativeError(given, await roundTrip(codec, 'values', given));
    expect(error / expected).toBeGreaterThan(0.6);
    expect(error / expected).toBeLessThan(1.4);
  });

  it('gives rows of one channel back at the level nearest to 1, and zeros as zeros', async () => {
    const given = new Float32Array(64 * 64);
    for (let entry = 1; entry < 64; entry++) given[entry * 64 + ((entry * 7) % 64)] = entry % 2 ? -entry : 1 / entry;
    const found = await roundTrip(codec, 'values', given);
    const level = bits === 4 ? 0.94234 : 1.510418;
    const near = bits === 4 ? level : 0.45278;
    for (const [index, value] of given.entries()) {
      const closest = Math.abs(1 - level) < Math.abs(1 - near) ? level : near;
      expect(Math.abs(found[index] - value * closest)).toBeLessThan(2e-3 * Math.abs(value) + 1e-6);
    }
  });

  it('has products of keys with queries that are short by what levels lose, on average over seeds', async () => {
    const key = normal(64, 11);
    const query = key.map((value, index) => value + normal(64, 12)[index]);
    const page = Float32Array.from({ length: 64 * 64 }, (_, index) => key[index % 64]);
    let sum = 0;
    const seeds = 400;
    for (let seed = 0; seed < seeds; seed++) {
      const found = await roundTrip(turboKv({ bits, seed }), 'keys', page);
      sum += dot(query, found.subarray(0, 64));
    }
    expect(Math.abs(sum / seeds / dot(query, key) - (1 - expected))).toBeLessThan(bits === 4 ? 0.004 : 0.015);
  });

  it.each(kvSides)('takes rows of %s as large as half precision has them, whatever their direction', async (side) => {
    const found = await roundTrip(codec, side, new Float32Array(64 * 64).fill(65504));
    for (const value of found) expect(Number.isFinite(value)).toBe(true);
    expect(relativeError(new Float32Array(64 * 64).fill(65504), found)).toBeLessThan(2.5 * expected);
  });
});

describe('what turbo does not take', () => {
  it.each([3, 40, 96, 1000])('heads of %i channels', (channels) => {
    expect(() => turboKv().allocate(backend, 'keys', { pages: 1, heads: 1, pageSize: 32, dim: channels })).toThrow(
      /power of two/,
    );
  });

  it('other bits, and seeds that are not 32 bits', () => {
    expect(() => turboKv({ bits: 3 as 2 })).toThrow(OptionError);
    for (const seed of [-1, 0.5, 2 ** 32, NaN]) expect(() => turboKv({ seed })).toThrow(OptionError);
  });
});
