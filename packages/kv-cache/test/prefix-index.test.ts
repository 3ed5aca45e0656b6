import { createReferenceBackend, DisposedError, fromArray, OptionError, scope } from '@filigree/core-tensor';
import {
  gdsf,
  hashChainIndex,
  KvCache,
  KvCapacityError,
  lec,
  lru,
  PagePool,
  radixIndex,
  type PrefixIndex,
  type PrefixIndexOptions,
  type PrefixMatch,
} from '@filigree/kv-cache';
import { fullTier } from '@filigree/testing';
import * as fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';

const backend = createReferenceBackend();
afterAll(() => {
  expect(backend.memory().buffers).toBe(0);
  backend.dispose();
});

const pageSize = 2;
const layers = [{ kHeads: 1, vHeads: 1, kDim: 2, vDim: 2 }];
const newPool = (pages: number): PagePool => new PagePool(backend, { layers, capacity: pages * pageSize, pageSize });

type Make = (pool: PagePool, options?: PrefixIndexOptions) => PrefixIndex;
const kinds: readonly (readonly [string, Make])[] = [
  ['a hash chain', hashChainIndex],
  ['a hash chain whose hashes are all equal', (pool, options) => hashChainIndex(pool, { ...options, hash: () => 1 })],
  ['a radix tree', radixIndex],
];

/** What a model would store for the last of some tokens: it depends on all of them, and on the extras. */
function entryOf(tokens: readonly number[], extras: string): number {
  return tokens.reduce((sum, token) => (sum * 5 + token + 1) % 8191, extras.length);
}

/** Appends the entries that are missing, as a model would. */
function compute(cache: KvCache, tokens: readonly number[], extras: string): void {
  const start = cache.length();
  const count = tokens.length - start;
  const rows = Array.from({ length: count }, (_, row) => entryOf(tokens.slice(0, start + row + 1), extras));
  const doubled = rows.flatMap((value) => [value, -value]);
  scope(() => {
    const k = fromArray(backend, doubled, [count, 1, 2]);
    cache.append(0, { k, v: k });
  });
}

async function expectEntries(cache: KvCache, tokens: readonly number[], extras: string): Promise<void> {
  const data = await cache.view(0).k.readNumbers();
  const found = tokens.map((_, entry) => data[(cache.pages[Math.floor(entry / pageSize)] * pageSize + (entry % pageSize)) * 2]);
  expect(found).toEqual(tokens.map((_, entry) => entryOf(tokens.slice(0, entry + 1), extras)));
}

interface Held {
  readonly cache: KvCache;
  tokens: number[];
  readonly extras: string;
}

type Action =
  | { readonly kind: 'prompt'; readonly tokens: readonly number[]; readonly extras: string; readonly hold: boolean }
  | { readonly kind: 'extend'; readonly which: number; readonly tokens: readonly number[] }
  | { readonly kind: 'look'; readonly tokens: readonly number[]; readonly extras: string }
  | { readonly kind: 'evict' | 'dispose' | 'release'; readonly which: number };

/** Mostly equal tokens, so that prompts share much and part anywhere. */
const tokens = (maxLength: number): fc.Arbitrary<number[]> =>
  fc.array(fc.constantFrom(0, 0, 0, 0, 1), { minLength: 1, maxLength, size: 'max' });
const extras = fc.constantFrom('', '', 'adapter');
const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant('prompt' as const), tokens: tokens(11), extras, hold: fc.boolean() }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('extend' as const), which: fc.nat(9), tokens: tokens(5) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('look' as const), tokens: tokens(11), extras }) },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constantFrom('evict' as const, 'dispose' as const, 'release' as const), which: fc.nat(9) }),
  },
);

/** An index beside a map from prefixes to pages, which learns from the pool alone what was evicted. */
class Oracle {
  readonly map = new Map<string, number>();
  caches: Held[] = [];
  locks: { readonly match: PrefixMatch; readonly pages: readonly number[] }[] = [];

  constructor(
    readonly pool: PagePool,
    readonly index: PrefixIndex,
  ) {}

  keysOf(all: readonly number[], name: string): string[] {
    return Array.from({ length: Math.floor(all.length / pageSize) }, (_, page) =>
      [name, ...all.slice(0, (page + 1) * pageSize)].join(),
    );
  }

  longest(all: readonly number[], name: string): number[] {
    const pages = this.keysOf(all, name).map((key) => this.map.get(key));
    const end = pages.indexOf(undefined);
    return pages.slice(0, end < 0 ? pages.length : end).map(Number);
  }

  used(page: number): number {
    return this.caches.filter(({ cache }) => cache.pages.includes(page)).length;
  }

  /** Runs a step and forgets what the index gave up in it, none of which may be locked or in use. */
  during<T>(step: () => T): T {
    const safe = new Set([...this.locks.flatMap(({ pages }) => pages), ...this.caches.flatMap(({ cache }) => cache.pages)]);
    try {
      return step();
    } finally {
      for (const [key, page] of this.map) {
        if (this.pool.owners(page) - this.used(page) === 1) continue;
        expect(safe.has(page)).toBe(false);
        this.map.delete(key);
      }
    }
  }

  check(): void {
    expect(this.index.size).toBe(this.map.size);
    for (const key of this.map.keys()) {
      const parent = key.split(',').slice(0, -pageSize).join();
      if (parent.includes(',')) expect(this.map.has(parent)).toBe(true);
    }
    expect(this.index.evictable()).toBe(this.evictable());
  }

  /** Prefixes none of whose extensions are locked or in use. */
  evictable(): number {
    const locked = new Set(this.locks.flatMap(({ pages }) => pages));
    const kept = [...this.map].filter(([, page]) => locked.has(page) || this.used(page) > 0).map(([key]) => key);
    return [...this.map.keys()].filter((key) => !kept.some((other) => other === key || other.startsWith(`${key},`))).length;
  }

  insert(held: Held): void {
    const { cache, tokens: all, extras: name } = held;
    const before = this.longest(all, name);
    const full = Math.floor(all.length / pageSize);
    const pages = this.during(() => this.index.insert(all, cache.pages.slice(0, full), { extras: name }));
    this.learn(held, pages);
    expect(pages).toEqual([...before, ...cache.pages.slice(before.length, full)]);
    cache.adopt(pages);
    expect(cache.pages.slice(0, full)).toEqual(pages);
    this.check();
  }

  /** What came in: a page that one more owns than caches do. */
  learn({ tokens: all, extras: name }: Held, pages: readonly number[]): void {
    for (const [index, key] of this.keysOf(all, name).entries())
      if (!this.map.has(key) && this.pool.owners(pages[index]) > this.used(pages[index])) this.map.set(key, pages[index]);
  }
}

function play(oracle: Oracle, step: Action): void {
  const { index, pool } = oracle;
  switch (step.kind) {
    case 'prompt': {
      // The last token always runs.
      const known = step.tokens.slice(0, -1);
      const expected = oracle.longest(known, step.extras);
      const match = index.match(known, step);
      expect(match.pages).toEqual(expected);
      expect(match.length).toBe(expected.length * pageSize);
      oracle.locks.push({ match, pages: match.pages });
      const cache = new KvCache(backend, { pool, pages: match.pages });
      const held = { cache, tokens: [...step.tokens], extras: step.extras };
      oracle.caches.push(held);
      try {
        oracle.during(() => {
          compute(cache, step.tokens, step.extras);
        });
        oracle.insert(held);
      } catch (error) {
        if (!(error instanceof KvCapacityError)) throw error;
        // Nothing was left to give.
        expect(index.evictable()).toBe(0);
        cache.dispose();
        oracle.caches.pop();
      }
      if (!step.hold) oracle.locks.pop()?.match.release();
      break;
    }
    case 'extend': {
      const held = oracle.caches.at(step.which % Math.max(1, oracle.caches.length));
      if (!held) break;
      const all = [...held.tokens, ...step.tokens];
      try {
        oracle.during(() => {
          compute(held.cache, all, held.extras);
        });
      } catch (error) {
        if (!(error instanceof KvCapacityError)) throw error;
        break;
      }
      held.tokens = all;
      oracle.insert(held);
      break;
    }
    case 'look': {
      const expected = oracle.longest(step.tokens, step.extras);
      const match = index.match(step.tokens, step);
      expect(match.pages).toEqual(expected);
      match.release();
      match.release();
      break;
    }
    case 'evict': {
      const most = oracle.evictable();
      expect(oracle.during(() => index.evict(step.which))).toBe(Math.min(most, step.which));
      break;
    }
    case 'dispose': {
      const [held] = oracle.caches.splice(step.which % Math.max(1, oracle.caches.length), 1);
      held?.cache.dispose();
      break;
    }
    case 'release': {
      const [lock] = oracle.locks.splice(step.which % Math.max(1, oracle.locks.length), 1);
      lock?.match.release();
      break;
    }
  }
  oracle.check();
}

describe.each(kinds)('%s', (_, make) => {
  it('finds what a map of all prefixes finds and leaks nothing, after any history', async () => {
    const history = fc.record({
      pages: fc.integer({ min: 3, max: 14 }),
      maxPages: fc.constantFrom(undefined, undefined, 1, 4),
      policy: fc.constantFrom(gdsf, lru, lec),
      actions: fc.array(action, { maxLength: 30, size: 'max' }),
    });
    await fc.assert(
      fc.asyncProperty(history, async ({ pages, maxPages, policy, actions }) => {
        const before = backend.memory().buffers;
        const pool = newPool(pages);
        const oracle = new Oracle(pool, make(pool, { policy: policy(), maxPages }));
        for (const step of actions) play(oracle, step);
        for (const { cache, tokens: all, extras: name } of oracle.caches) await expectEntries(cache, all, name);
        for (const { match } of oracle.locks) match.release();
        for (const { cache } of oracle.caches) cache.dispose();
        expect(oracle.index.clear()).toBe(oracle.map.size);
        expect(oracle.index.size).toBe(0);
        expect(pool.freePages).toBe(pool.pages);
        oracle.index.dispose();
        pool.leave();
        expect(backend.memory().buffers).toBe(before);
      }),
      { numRuns: fullTier ? 3000 : 300, seed: 17 },
    );
  });

  it('has two equal prompts in memory once', () => {
    const pool = newPool(16);
    const index = make(pool);
    const prompt = [1, 2, 3, 4, 5, 6, 7];
    const [first, second] = [new KvCache(backend, { pool }), new KvCache(backend, { pool })];
    for (const cache of [first, second]) {
      compute(cache, prompt, '');
      cache.adopt(index.insert(prompt, cache.pages));
    }
    // Three full pages together, and an unfinished one each.
    expect(pool.pages - pool.freePages).toBe(5);
    expect(second.pages.slice(0, 3)).toEqual(first.pages.slice(0, 3));
    for (const cache of [first, second]) cache.dispose();
    expect(pool.pages - pool.freePages).toBe(3);
    index.dispose();
    index.dispose();
    expect(pool.freePages).toBe(16);
    pool.leave();
  });

  it('is made room for before a cache is refused', () => {
    const pool = newPool(4);
    const index = make(pool);
    const cache = new KvCache(backend, { pool });
    compute(cache, [1, 2, 3, 4, 5, 6], '');
    index.insert([1, 2, 3, 4, 5, 6], cache.pages);
    cache.dispose();
    expect([pool.freePages, index.size]).toEqual([1, 3]);
    const next = new KvCache(backend, { pool });
    compute(next, [9, 9, 9, 9, 9], '');
    expect([pool.freePages, index.size]).toEqual([0, 1]);
    const match = index.match([1, 2, 3, 4]);
    expect(match.length).toBe(2);
    expect(() => {
      compute(next, [9, 9, 9, 9, 9, 9, 9], '');
    }).toThrow(KvCapacityError);
    match.release();
    compute(next, [9, 9, 9, 9, 9, 9, 9], '');
    expect(index.size).toBe(0);
    next.dispose();
    index.dispose();
    pool.leave();
  });

  it('lets go of what is asked for seldom, the end of a prefix first', () => {
    const pool = newPool(12);
    const index = make(pool);
    const insert = (all: number[]): void => {
      const cache = new KvCache(backend, { pool });
      compute(cache, all, '');
      index.insert(all, cache.pages);
      cache.dispose();
    };
    insert([1, 1, 2, 2, 3, 3]);
    insert([1, 1, 7, 7, 8, 8]);
    for (let time = 0; time < 5; time++) index.match([1, 1, 7, 7, 8, 8]).release();
    index.evict(1);
    expect(index.match([1, 1, 2, 2, 3, 3]).length).toBe(4);
    expect(index.match([1, 1, 7, 7, 8, 8]).length).toBe(6);
    index.dispose();
    pool.leave();
  });

  it('holds a locked prefix that is parted by another one, and no longer than it is locked', () => {
    const pool = newPool(12);
    const index = make(pool);
    const cache = new KvCache(backend, { pool });
    compute(cache, [1, 1, 2, 2, 3, 3], '');
    index.insert([1, 1, 2, 2, 3, 3], cache.pages);
    cache.dispose();
    const match = index.match([1, 1, 2, 2]);
    index.match([1, 1, 5, 5]).release();
    expect(index.evict(9)).toBe(1);
    match.release();
    expect(index.evict(9)).toBe(2);
    index.dispose();
    pool.leave();
  });

  it('of few pages takes a prefix in once it is asked for more than what it has', () => {
    const pool = newPool(12);
    const index = make(pool, { maxPages: 2, policy: lec() });
    const ask = (all: number[]): number => {
      const match = index.match(all);
      const cache = new KvCache(backend, { pool, pages: match.pages });
      match.release();
      if (match.length < all.length) compute(cache, all, '');
      index.insert(all, cache.pages);
      cache.dispose();
      return match.length;
    };
    for (let time = 0; time < 3; time++) ask([1, 1, 2, 2]);
    for (let token = 10; token < 20; token++) expect(ask([token, token])).toBe(0);
    expect(ask([1, 1, 2, 2])).toBe(4);
    for (let time = 0; time < 12; time++) ask([5, 5]);
    expect(ask([5, 5])).toBe(2);
    expect(index.size).toBe(2);
    index.dispose();
    pool.leave();
  });

  it('refuses pages that are free, given twice or there for other tokens', () => {
    const pool = newPool(8);
    const index = make(pool);
    const cache = new KvCache(backend, { pool });
    compute(cache, [1, 2, 3, 4], '');
    const [a, b] = cache.pages;
    for (const pages of [
      [7, a],
      [a, a],
      [-1, b],
      [0.5, b],
    ])
      expect(() => index.insert([1, 2, 3, 4], pages)).toThrow(OptionError);
    expect(index.size).toBe(0);
    index.insert([1, 2], [a]);
    expect(() => index.insert([5, 6], [a])).toThrow(/pages has \d+, which is there for other tokens/);
    expect(() => index.match([1.5])).toThrow(/token 0 is 1.5/);
    expect(() => make(pool, { maxPages: 0 })).toThrow(OptionError);
    index.dispose();
    expect(() => index.match([1])).toThrow(DisposedError);
    cache.dispose();
    pool.leave();
  });
});

describe('a cache that begins with shared pages', () => {
  it('copies the last one to run the last token again, and only that', async () => {
    const pool = newPool(8);
    const first = new KvCache(backend, { pool });
    compute(first, [1, 2, 3, 4], '');
    const second = new KvCache(backend, { pool, pages: first.pages });
    expect([second.length(), second.bytes().raw, second.bytes().shared]).toEqual([4, 0, 2 * pool.pageBytes]);
    second.truncate(3);
    compute(second, [1, 2, 3, 5], '');
    expect(second.bytes()).toMatchObject({ raw: pool.pageBytes, shared: pool.pageBytes });
    await expectEntries(first, [1, 2, 3, 4], '');
    await expectEntries(second, [1, 2, 3, 5], '');
    const third = new KvCache(backend, { pool, pages: first.pages, length: 3 });
    expect(third.length()).toBe(3);
    for (const cache of [first, second, third]) cache.dispose();
    pool.leave();
  });

  it('refuses pages that are free, and lengths that do not end in the last', () => {
    const pool = newPool(8);
    const cache = new KvCache(backend, { pool });
    compute(cache, [1, 2, 3], '');
    for (const options of [{ pages: [5] }, { pages: cache.pages, length: 2 }, { pages: cache.pages, length: 5 }, { length: 1 }])
      expect(() => new KvCache(backend, { pool, ...options })).toThrow(OptionError);
    expect(() => {
      cache.adopt(cache.pages);
    }).toThrow(/pages has 2, the cache has 1 full ones/);
    cache.dispose();
    pool.leave();
  });
});
