import { createNativeBackend } from '@filigree/backend-native';
import {
  createReferenceBackend,
  ExecutionError,
  f16ToNumber,
  fromArray,
  numberToF16,
  OptionError,
  Random,
  type Backend,
} from '@filigree/core-tensor';
import { codedLayout, kvSides, mustafarKv, type CodedKvCodec, type KvSide } from '@filigree/kv-cache';
import * as fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';

const backends = [createReferenceBackend(), createNativeBackend({ fallback: 'error' })];
afterAll(() => {
  for (const backend of backends) backend.dispose();
});
const tenths = [...Array(10).keys()];

interface Size {
  readonly heads: number;
  readonly pageSize: number;
  readonly dim: number;
}

interface Trip {
  readonly bytes: Uint8Array;
  /** [pages, Hk, P, D]. */
  readonly decoded: Float32Array;
}

async function roundTrip(on: Backend, codec: CodedKvCodec, side: KvSide, rows: Float32Array, size: Size): Promise<Trip> {
  const { heads, pageSize, dim } = size;
  const pages = rows.length / (heads * pageSize * dim);
  const coded = codec.allocate(on, side, { pages, ...size });
  const ids = fromArray(on, [...Array(pages).keys()], [pages], 'i32');
  codec.encodePages(side, { pages: fromArray(on, rows, [pages, heads, pageSize, dim]), sources: ids, targets: ids, coded });
  const decoded = (await codec.decodePages(side, coded, ids, size).readNumbers()) as Float32Array;
  return { bytes: (await coded.read()) as Uint8Array, decoded };
}

function normal(count: number, seed: number): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: count }, () => f16ToNumber(numberToF16(random.nextNormal())));
}

/** Rows with all but the largest of every entry set to 0: a number stays if fewer than `kept` of its entry come before it. */
function pruned(rows: Float32Array, dim: number, kept: number): Float32Array {
  return rows.map((value, index) => {
    const entry = rows.subarray(index - (index % dim), index - (index % dim) + dim);
    const rank = entry.reduce((count, other, channel) => {
      const larger = Math.abs(other) > Math.abs(value);
      return count + Number(larger || (Math.abs(other) === Math.abs(value) && channel < index % dim));
    }, 0);
    return rank < kept ? value : 0;
  });
}

const keptOf = (dim: number, dropped: number): number => dim - Math.floor((dim * dropped) / 10);

describe.each(kvSides)('pruned %s', (side) => {
  it.each(tenths)('are the mask of the largest times the rows, with %i of ten dropped', async (dropped) => {
    const sizes = fc.record({
      heads: fc.constantFrom(1, 2),
      pageSize: fc.constantFrom(32, 64, 96),
      dim: fc.constantFrom(1, 3, 16, 40, 64, 80, 96),
    });
    // Few different magnitudes: most ranks are decided by the channel.
    const magnitudes = fc.constantFrom(1, 3, 1000);
    await fc.assert(
      fc.asyncProperty(sizes, magnitudes, fc.nat(1e6), async (size, magnitude, seed) => {
        const random = new Random(seed);
        const count = size.heads * size.pageSize * size.dim;
        const rows = Float32Array.from({ length: count }, () => random.nextInt(2 * magnitude + 1) - magnitude);
        const expected = pruned(rows, size.dim, keptOf(size.dim, dropped));
        const codec = mustafarKv({ sparsity: dropped / 10 });
        const trips = await Promise.all(backends.map((on) => roundTrip(on, codec, side, rows, size)));
        for (const { decoded } of trips) expect(decoded).toEqual(expected);
        expect(trips[1].bytes).toEqual(trips[0].bytes);
      }),
      { numRuns: 8 },
    );
  });

  it('lose nothing when nothing is dropped', async () => {
    const size = { heads: 2, pageSize: 64, dim: 80 };
    const rows = normal(2 * 2 * 64 * 80, 5);
    for (const on of backends)
      expect((await roundTrip(on, mustafarKv({ sparsity: 0 }), side, rows, size)).decoded).toEqual(rows);
  });

  // The limit of large head dims; of 64 channels, of which whole ones are dropped, 0.075 and 0.21.
  it.each([
    [1000, 0.5, 0.0713],
    [1000, 0.7, 0.2166],
    [64, 0.5, 0.0749],
    [64, 0.7, 0.2095],
  ])('of normally distributed rows of %i lose, at %d, %d of the energy', async (dim, sparsity, expected) => {
    const size = { heads: 1, pageSize: 32, dim };
    const rows = normal(64 * 32 * 64 - ((64 * 32 * 64) % (32 * dim)), 6);
    const { decoded } = await roundTrip(backends[1], mustafarKv({ sparsity }), side, rows, size);
    const energy = rows.reduce((sum, value) => sum + value ** 2, 0);
    const lost = rows.reduce((sum, value, index) => sum + (value - decoded[index]) ** 2, 0);
    expect(lost / energy / expected).toBeGreaterThan(0.97);
    expect(lost / energy / expected).toBeLessThan(1.03);
  });

  it.each(tenths)('have the bytes of the formula with %i of ten dropped', (dropped) => {
    const codec = mustafarKv({ sparsity: dropped / 10 });
    for (const [dim, pageSize] of [
      [64, 64],
      [128, 32],
    ]) {
      const exact = 2 * keptOf(dim, dropped) + dim / 8 + (side === 'keys' ? dim / 16 : 0);
      expect(codec.bytesPerEntry(dim, side)).toBe(exact);
      expect(codec.allocate(backends[0], side, { pages: 3, heads: 2, pageSize, dim }).bytes).toBe(3 * 2 * pageSize * exact);
      expect(codedLayout(codec.format, side, pageSize, dim).bytes).toBe(pageSize * exact);
    }
  });

  it.each([NaN, Infinity, 65505])('do not hold %d', async (value) => {
    for (const on of [createReferenceBackend(), createNativeBackend({ fallback: 'error' })]) {
      const rows = normal(32 * 16, 1);
      rows[77] = value;
      const codec = mustafarKv();
      await expect(roundTrip(on, codec, side, rows, { heads: 1, pageSize: 32, dim: 16 })).rejects.toThrow(ExecutionError);
      on.dispose();
    }
  });
});

describe('mustafarKv', () => {
  it.each([-0.1, 1, 0.55, NaN])('says no to a sparsity of %d', (sparsity) => {
    expect(() => mustafarKv({ sparsity })).toThrow(OptionError);
  });

  it('drops half unless told otherwise', () => {
    expect(mustafarKv().format).toBe('bitmap50');
  });
});
