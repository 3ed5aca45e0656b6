import { createNativeBackend } from '@filigree/backend-native';
import {
  createReferenceBackend,
  DisposedError,
  fromArray,
  OptionError,
  Random,
  scope,
  type Backend,
} from '@filigree/core-tensor';
import {
  appendOp,
  CodedCache,
  int8Kv,
  KvCapacityError,
  kiviKv,
  mustafarKv,
  turboKv,
  type CodedKvCodec,
} from '@filigree/kv-cache';
import { fullTier } from '@filigree/testing';
import * as fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';

const layers = [
  { kHeads: 2, vHeads: 2, kDim: 8, vDim: 4 },
  { kHeads: 1, vHeads: 1, kDim: 16, vDim: 2 },
];
const pageSize = 32;
const sequences = fullTier ? 1000 : 60;

/** Keys and values [entry][head · dim] of every layer. */
type Rows = { k: number[][]; v: number[][] }[];

function append(cache: CodedCache, rows: Rows, random: Random, count: number): void {
  const { slots } = cache.reserve(count);
  scope(() => {
    for (const [layer, { kHeads, kDim, vDim }] of layers.entries()) {
      const made = (dim: number): number[] => Array.from({ length: count * kHeads * dim }, () => random.nextNormal());
      const [k, v] = [made(kDim), made(vDim)];
      const tensor = (values: number[], dim: number) => fromArray(cache.backend, values, [count, kHeads, dim]);
      const pages = { keyPages: cache.raw.keys[layer], valuePages: cache.raw.values[layer] };
      appendOp({ ...pages, k: tensor(k, kDim), v: tensor(v, vDim), slots }, {});
      for (let entry = 0; entry < count; entry++) {
        rows[layer].k.push(k.slice(entry * kHeads * kDim, (entry + 1) * kHeads * kDim));
        rows[layer].v.push(v.slice(entry * kHeads * vDim, (entry + 1) * kHeads * vDim));
      }
    }
  });
}

async function check(cache: CodedCache, rows: Rows, tolerance: number): Promise<void> {
  for (const [layer, { kHeads, kDim, vDim }] of layers.entries()) {
    const { k, v } = cache.entries(layer);
    for (const [tensor, expected, dim] of [[k, rows[layer].k, kDim] as const, [v, rows[layer].v, vDim] as const]) {
      expect(tensor.shape).toEqual([kHeads, cache.length(), dim]);
      const found = await tensor.readNumbers();
      let worst = 0;
      for (let head = 0; head < kHeads; head++)
        for (let entry = 0; entry < cache.length(); entry++)
          for (let channel = 0; channel < dim; channel++) {
            const value = found[(head * cache.length() + entry) * dim + channel];
            worst = Math.max(worst, Math.abs(value - expected[entry][head * dim + channel]));
          }
      expect(worst).toBeLessThan(tolerance);
      tensor.dispose();
    }
  }
}

/** Largest error of normally distributed numbers, some of which were coded twice. */
const codecs: readonly (readonly [string, CodedKvCodec, number])[] = [
  ['int8', int8Kv(), 0.06],
  ['kivi4', kiviKv({ bits: 4 }), 0.5],
  ['turbo4', turboKv({ bits: 4 }), 2],
  ['bitmap0', mustafarKv({ sparsity: 0 }), 0.003],
];

const backends: readonly (readonly [string, Backend])[] = [
  ['native', createNativeBackend({ threads: 2, fallback: 'error' })],
  ['reference', createReferenceBackend()],
];

afterAll(() => {
  for (const [, backend] of backends) backend.dispose();
});

for (const [name, backend] of backends) {
  describe(`a coded cache on ${name}`, () => {
    it.each(codecs)('of %s holds what a list holds, in generated histories', async (_, codec, tolerance) => {
      const action = fc.record({
        kind: fc.constantFrom('append', 'append', 'append', 'truncate', 'fork', 'dispose'),
        which: fc.nat(9),
        count: fc.integer({ min: 1, max: 90 }),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(action, { maxLength: 12 }), fc.nat(1e6), async (actions, seed) => {
          const before = backend.memory().liveBytes;
          const random = new Random(seed);
          const options = { layers, capacity: 600, raw: 400, residual: 40, pageSize, codec: { k: codec, v: codec } };
          const alive = [{ cache: new CodedCache(backend, { ...options, dtype: 'f32' }), rows: layers.map(() => empty()) }];
          for (const { kind, which, count } of actions) {
            const own = alive[which % alive.length];
            if (kind === 'append') {
              const length = own.cache.length();
              try {
                append(own.cache, own.rows, random, count);
              } catch (error) {
                expect(error).toBeInstanceOf(KvCapacityError);
                expect(own.cache.length()).toBe(length);
              }
            } else if (kind === 'truncate') {
              const to = count % (own.cache.length() + 1);
              own.cache.truncate(to);
              for (const { k, v } of own.rows) for (const list of [k, v]) list.splice(to);
            } else if (kind === 'fork' && alive.length < 3)
              alive.push({ cache: own.cache.fork(), rows: own.rows.map(({ k, v }) => ({ k: [...k], v: [...v] })) });
            else if (kind === 'dispose' && alive.length > 1) alive.splice(which % alive.length, 1)[0].cache.dispose();
          }
          for (const { cache, rows } of alive) {
            expect(cache.codedLength % pageSize).toBe(0);
            const { raw, codes, shared, meta, total } = cache.bytes();
            expect(raw + codes + shared + meta).toBe(total);
            await check(cache, rows, tolerance);
          }
          for (const { cache } of alive) cache.dispose();
          await backend.sync();
          expect(backend.memory().liveBytes).toBe(before);
        }),
        { numRuns: sequences },
      );
    });

    it('says no to what cannot be', () => {
      const codec = { k: int8Kv(), v: int8Kv() };
      const cache = new CodedCache(backend, { layers, capacity: 64, raw: 64, codec, pageSize });
      expect(() => cache.reserve(0)).toThrow(OptionError);
      expect(() => cache.reserve(1000)).toThrow(KvCapacityError);
      expect(() => {
        cache.truncate(-1);
      }).toThrow(OptionError);
      expect(() => cache.entries(2)).toThrow(/layer 2/);
      expect(cache.length()).toBe(0);
      cache.dispose();
      expect(() => cache.reserve(1)).toThrow(DisposedError);
      expect(() => new CodedCache(backend, { layers, capacity: 64, raw: -1, codec })).toThrow(/raw is -1/);
      expect(() => new CodedCache(backend, { layers, capacity: 64, raw: 64, codec, pageSize: 20 })).toThrow(/pageSize is 20/);
    });
  });
}

function empty(): { k: number[][]; v: number[][] } {
  return { k: [], v: [] };
}
