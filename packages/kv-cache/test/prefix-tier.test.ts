import { createNativeBackend } from '@filigree/backend-native';
import { SinkWriteError } from '@filigree/checkpoint';
import { createReferenceBackend, fromArray, OptionError, scope, type Backend } from '@filigree/core-tensor';
import {
  fileTier,
  hashChainIndex,
  KvCache,
  memoryTier,
  PagePool,
  PrefixTier,
  radixIndex,
  type KvTier,
  type PrefixIndex,
} from '@filigree/kv-cache';
import { fullTier } from '@filigree/testing';
import * as fc from 'fast-check';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const pageSize = 2;
const layers = [
  { kHeads: 1, vHeads: 1, kDim: 2, vDim: 4 },
  { kHeads: 2, vHeads: 2, kDim: 2, vDim: 2 },
];

/** What a model would store for the last of some tokens. */
function entryOf(tokens: readonly number[]): number {
  return tokens.reduce((sum, token) => (sum * 5 + token + 1) % 2039, 0);
}

function compute(cache: KvCache, tokens: readonly number[]): void {
  const start = cache.length();
  const count = tokens.length - start;
  if (count === 0) return;
  for (const [layer, { kHeads, kDim, vDim }] of layers.entries()) {
    const rows = (width: number): number[] =>
      Array.from({ length: count * width }, (_, at) => entryOf(tokens.slice(0, start + Math.floor(at / width) + 1)) + layer);
    scope(() => {
      cache.append(layer, {
        k: fromArray(cache.backend, rows(kHeads * kDim), [count, kHeads, kDim]),
        v: fromArray(cache.backend, rows(kHeads * vDim), [count, kHeads, vDim]),
      });
    });
  }
}

async function expectEntries(cache: KvCache, tokens: readonly number[]): Promise<void> {
  for (const layer of layers.keys()) {
    const { k, v } = cache.view(layer);
    for (const tensor of [k, v]) {
      const [, heads, , dim] = tensor.shape;
      const data = await tensor.readNumbers();
      for (let entry = 0; entry < cache.length(); entry++) {
        const at = (cache.pages[Math.floor(entry / pageSize)] * heads * pageSize + (entry % pageSize)) * dim;
        const last = at + (heads - 1) * pageSize * dim + dim - 1;
        expect([data[at], data[last]]).toEqual(Array(2).fill(entryOf(tokens.slice(0, entry + 1)) + layer));
      }
    }
  }
}

interface Place {
  readonly pool: PagePool;
  readonly index: PrefixIndex;
}

function place(backend: Backend, make: (pool: PagePool) => PrefixIndex, pages: number): Place {
  const pool = new PagePool(backend, { layers, capacity: pages * pageSize, pageSize, dtype: 'f16' });
  return { pool, index: make(pool) };
}

function insert({ pool, index }: Place, tokens: readonly number[], extras?: string): void {
  const match = index.match(tokens.slice(0, -1), { extras });
  const cache = new KvCache(pool.backend, { pool, pages: match.pages });
  match.release();
  compute(cache, tokens);
  index.insert(tokens, cache.pages, { extras });
  cache.dispose();
}

async function expectMatch({ pool, index }: Place, tokens: readonly number[], length: number): Promise<void> {
  const match = index.match(tokens);
  expect(match.length).toBe(length);
  const cache = new KvCache(pool.backend, { pool, pages: match.pages });
  match.release();
  await expectEntries(cache, tokens);
  cache.dispose();
}

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'filigree-tier-'));
});
afterAll(async () => {
  expect(await readdir(folder)).toEqual([]);
  await rm(folder, { recursive: true });
});

let files = 0;
const tiers: [string, () => Promise<KvTier>][] = [
  ['memory', () => Promise.resolve(memoryTier())],
  ['a file', () => fileTier(join(folder, `${files++}.pages`))],
];
const indexes: [string, (pool: PagePool) => PrefixIndex][] = [
  ['hash chain', (pool) => hashChainIndex(pool)],
  ['radix tree', (pool) => radixIndex(pool)],
];
const backends: [string, () => Backend][] = [
  ['reference', createReferenceBackend],
  ['native', () => createNativeBackend({ threads: 1, fallback: 'error' })],
];
const all = backends.flatMap(([backend, make]) =>
  tiers.flatMap(([tier, open]) => indexes.map(([name, index]) => [`${name}, ${tier}, ${backend}`, make, open, index] as const)),
);

describe.each(all)('evicted pages (%s)', (_, make, open, makeIndex) => {
  const backend = make();
  afterAll(async () => {
    await backend.sync();
    expect(backend.memory().buffers).toBe(0);
    backend.dispose();
  });

  it('come back as they were', async () => {
    const here = place(backend, makeIndex, 8);
    const storage = await open();
    const tier = new PrefixTier(here.index, storage, { capacity: 16 });
    const prompt = [1, 2, 3, 4, 5, 6, 7];
    insert(here, prompt);
    expect(await tier.demote(2)).toBe(2);
    expect([here.index.size, tier.size]).toEqual([1, 2]);
    await expectMatch(here, prompt, 2);
    expect(await tier.promote([1, 2, 3, 4, 9, 9])).toBe(1);
    expect(await tier.promote(prompt, { extras: 'adapter' })).toBe(0);
    expect(await tier.promote(prompt)).toBe(1);
    expect(await tier.promote(prompt)).toBe(0);
    await expectMatch(here, prompt, 6);
    // Under pressure all of it goes, and nothing is written twice.
    insert(here, Array<number>(16).fill(9));
    expect([tier.size, here.index.size]).toEqual([3, 8]);
    expect(await tier.promote(prompt)).toBe(3);
    await expectMatch(here, prompt, 6);
    await tier.close();
    expect(await tier.promote(prompt)).toBe(0);
    await storage.close();
    here.index.dispose();
    here.pool.leave();
  });

  it('are given up where they are damaged', async () => {
    const here = place(backend, makeIndex, 8);
    const storage = await open();
    const tier = new PrefixTier(here.index, storage, { capacity: 16 });
    insert(here, [1, 2, 3, 4, 5, 6]);
    await tier.demote(3);
    // The last page went first, so that slot 1 has the second one.
    const bytes = await storage.read(1);
    bytes[3] ^= 1;
    await storage.write(1, bytes);
    expect(await tier.promote([1, 2, 3, 4, 5, 6])).toBe(1);
    expect([here.index.size, tier.size]).toEqual([1, 2]);
    await expectMatch(here, [1, 2, 3, 4, 5, 6], 2);
    await tier.close();
    await storage.close();
    here.index.dispose();
    here.pool.leave();
  });

  it('are right after any history', async () => {
    const tokens = fc.array(fc.constantFrom(0, 0, 0, 1), { minLength: 1, maxLength: 9, size: 'max' });
    const action = fc.record({
      kind: fc.constantFrom('insert', 'insert', 'evict', 'promote', 'look'),
      tokens,
      count: fc.nat(5),
    });
    const runs = fullTier ? 3000 : 300;
    await fc.assert(
      fc.asyncProperty(
        fc.array(action, { maxLength: 14, size: 'max' }),
        fc.integer({ min: 1, max: 9 }),
        async (actions, capacity) => {
          const here = place(backend, makeIndex, 6);
          const storage = await open();
          const tier = new PrefixTier(here.index, storage, { capacity });
          for (const { kind, tokens: prompt, count } of actions) {
            if (kind === 'insert') insert(here, prompt);
            else if (kind === 'evict') here.index.evict(count);
            else if (kind === 'promote') {
              const before = here.index.match(prompt);
              before.release();
              const brought = await tier.promote(prompt);
              await expectMatch(here, prompt, before.length + brought * pageSize);
            } else {
              const match = here.index.match(prompt);
              match.release();
              await expectMatch(here, prompt, match.length);
            }
            expect(tier.size).toBeLessThanOrEqual(capacity);
          }
          here.index.clear();
          expect(here.pool.freePages).toBe(here.pool.pages);
          await tier.close();
          await storage.close();
          here.index.dispose();
          here.pool.leave();
        },
      ),
      // Four of these eight are slow to open.
      { numRuns: Math.ceil(runs / 8), seed: 23 },
    );
  });
});

describe('a tier', () => {
  const backend = createReferenceBackend();

  it('goes on without pages that it cannot write or read', async () => {
    const here = place(backend, (pool) => radixIndex(pool), 8);
    const memory = memoryTier();
    let [writes, broken] = [0, true];
    const storage: KvTier = {
      ...memory,
      write: (slot, bytes) => (writes++ === 0 ? Promise.reject(new Error('full')) : memory.write(slot, bytes)),
      read: (slot) => (broken ? Promise.reject(new Error('gone')) : memory.read(slot)),
    };
    const tier = new PrefixTier(here.index, storage, { capacity: 4 });
    insert(here, [1, 2, 3, 4]);
    expect(await tier.demote(2)).toBe(2);
    broken = false;
    // The second page is the one that was not written.
    expect(await tier.promote([1, 2, 3, 4])).toBe(1);
    expect(tier.size).toBe(1);
    broken = true;
    here.index.clear();
    expect(await tier.promote([1, 2])).toBe(0);
    expect(tier.size).toBe(0);
    await tier.close();
    here.index.dispose();
    here.pool.leave();
  });

  it('keeps what was asked for last', async () => {
    const here = place(backend, (pool) => hashChainIndex(pool), 8);
    const tier = new PrefixTier(here.index, memoryTier(), { capacity: 2 });
    for (const token of [1, 2, 3]) {
      insert(here, [token, token]);
      await tier.demote(9);
      if (token === 2) await tier.promote([1, 1]);
    }
    expect(tier.size).toBe(2);
    expect(await tier.promote([2, 2])).toBe(0);
    expect(await tier.promote([3, 3])).toBe(1);
    await tier.close();
    expect(() => new PrefixTier(here.index, memoryTier(), { capacity: 0 })).toThrow(OptionError);
    here.index.dispose();
    here.pool.leave();
  });

  it('of a file takes no file that is there, and leaves none', async () => {
    const path = join(folder, 'own.pages');
    const tier = await fileTier(path);
    await expect(fileTier(path)).rejects.toThrow(SinkWriteError);
    await tier.write(1, Uint8Array.of(1, 2, 3));
    await expect(tier.write(0, new Uint8Array(4))).rejects.toThrow(OptionError);
    expect(await tier.read(1)).toEqual(Uint8Array.of(1, 2, 3));
    tier.free(1);
    expect((await tier.read(1)).length).toBe(0);
    await tier.close();
    expect(await readdir(folder)).toEqual([]);
  });
});
