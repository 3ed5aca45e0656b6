import { createNativeBackend } from '@filigree/backend-native';
import {
  createReferenceBackend,
  DisposedError,
  DTypeError,
  f16ToNumber,
  fromArray,
  numberToF16,
  OptionError,
  Random,
  scope,
  ShapeError,
  type Backend,
} from '@filigree/core-tensor';
import { KvCache, KvCapacityError, PagePool, type KvLayerSpec, type RawKvType } from '@filigree/kv-cache';
import { attention } from '@filigree/sparse-attention';
import { fullTier } from '@filigree/testing';
import * as fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';

const pageSize = 4;
const layers: readonly KvLayerSpec[] = [
  { kHeads: 2, vHeads: 2, kDim: 4, vDim: 2 },
  { kHeads: 1, vHeads: 1, kDim: 2, vDim: 6 },
];
const sequences = fullTier ? 3000 : 300;

/** What a cache should hold: per layer, rows of keys and of values. */
interface Expected {
  readonly cache: KvCache;
  readonly rows: { k: number[][]; v: number[][] }[];
}

/** One step of a generated history; numbers are reduced to what is possible then. */
type Action =
  | { readonly kind: 'append'; readonly which: number; readonly count: number }
  | { readonly kind: 'truncate'; readonly which: number; readonly to: number }
  | { readonly kind: 'fork' | 'dispose' | 'commit'; readonly which: number };

const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('append' as const), which: fc.nat(9), count: fc.nat(9) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('truncate' as const), which: fc.nat(9), to: fc.nat(30) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('fork' as const), which: fc.nat(9) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('commit' as const), which: fc.nat(9) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('dispose' as const), which: fc.nat(9) }) },
);

const stored = (value: number, dtype: RawKvType): number =>
  dtype === 'f16' ? f16ToNumber(numberToF16(value)) : Math.fround(value);

function values(random: Random, count: number): number[] {
  return Array.from({ length: count }, () => Math.fround(random.nextNormal()));
}

function chunk(flat: readonly number[], width: number): number[][] {
  return Array.from({ length: flat.length / width }, (_, row) => flat.slice(row * width, (row + 1) * width));
}

/** Appends the same number of random rows to every layer; the oracle gets them only if the cache took them. */
function append({ cache, rows }: Expected, random: Random, count: number, dtype: RawKvType): void {
  const { backend } = cache;
  const before = { length: cache.length(), bytes: cache.bytes(), free: cache.pool.freePages };
  for (const [layer, { kHeads, kDim, vDim }] of layers.entries()) {
    const [k, v] = [values(random, count * kHeads * kDim), values(random, count * kHeads * vDim)];
    try {
      scope(() => {
        cache.append(layer, {
          k: fromArray(backend, k, [count, kHeads, kDim]),
          v: fromArray(backend, v, [count, kHeads, vDim]),
        });
      });
    } catch (error) {
      expect(error).toBeInstanceOf(KvCapacityError);
      // All layers share the page table, so only the first can be refused.
      expect(layer).toBe(0);
      expect({ length: cache.length(), bytes: cache.bytes(), free: cache.pool.freePages }).toEqual(before);
      return;
    }
    const round = (row: number[]): number[] => row.map((value) => stored(value, dtype));
    rows[layer].k.push(...chunk(k, kHeads * kDim).map(round));
    rows[layer].v.push(...chunk(v, kHeads * vDim).map(round));
  }
}

/** The entries of a layer, read from the pages through the table of its view. */
async function entries(cache: KvCache, layer: number): Promise<{ k: number[][]; v: number[][] }> {
  const { k, v, table, lengths } = cache.view(layer);
  const pages = table ? await table.readNumbers() : [];
  const read = async (tensor: typeof k): Promise<number[][]> => {
    const [, heads, size, dim] = tensor.shape;
    const data = await tensor.readNumbers();
    return Array.from({ length: lengths[0] }, (_, entry) =>
      Array.from({ length: heads }, (_, head) => {
        const at = ((pages[Math.floor(entry / size)] * heads + head) * size + (entry % size)) * dim;
        return Array.from(data.subarray(at, at + dim));
      }).flat(),
    );
  };
  return { k: await read(k), v: await read(v) };
}

/** Pages in use must be exactly those that the lengths imply, shared ones counted once. */
function checkPages(all: readonly Expected[], pool: PagePool, backend: Backend, startBytes: number): void {
  let meta = 0;
  let held = 0;
  for (const { cache } of all) {
    const bytes = cache.bytes();
    const pages = Math.ceil(cache.length() / pageSize);
    expect(bytes.raw + bytes.shared).toBe(pages * pool.pageBytes);
    expect(bytes.total).toBe(bytes.raw + bytes.shared + bytes.meta);
    meta += bytes.meta;
    held += pages;
  }
  const owners = Array.from({ length: pool.pages }, (_, page) => pool.owners(page));
  expect(owners.filter((count) => count > 0).length).toBe(pool.pages - pool.freePages);
  expect(owners.reduce((sum, count) => sum + count, 0)).toBe(held);
  expect(backend.memory().liveBytes - startBytes).toBe(pool.bytes + meta);
}

async function play(
  backend: Backend,
  dtype: RawKvType,
  pages: number,
  seed: number,
  actions: readonly Action[],
): Promise<void> {
  await backend.sync();
  const start = backend.memory();
  const random = new Random(seed);
  const first = new KvCache(backend, { layers, capacity: pages * pageSize, pageSize, dtype });
  const { pool } = first;
  let all: Expected[] = [{ cache: first, rows: layers.map(() => ({ k: [], v: [] })) }];
  for (const step of actions) {
    const chosen = all.at(step.which % all.length);
    if (!chosen) break;
    const { cache, rows } = chosen;
    switch (step.kind) {
      case 'append':
        append(chosen, random, step.count, dtype);
        break;
      case 'truncate':
        cache.truncate(step.to);
        for (const layer of rows) {
          layer.k.splice(step.to);
          layer.v.splice(step.to);
        }
        break;
      case 'fork':
        all.push({ cache: cache.fork(), rows: rows.map(({ k, v }) => ({ k: [...k], v: [...v] })) });
        break;
      case 'commit':
        cache.commit(cache.length());
        break;
      case 'dispose':
        cache.dispose();
        all = all.filter((other) => other !== chosen);
        break;
    }
    if (all.length === 0) break;
    checkPages(all, pool, backend, start.liveBytes);
  }
  for (const { cache, rows } of all) {
    for (const layer of layers.keys()) {
      expect(cache.length(layer)).toBe(rows[layer].k.length);
      expect(await entries(cache, layer)).toEqual(rows[layer]);
    }
  }
  for (const { cache } of all) cache.dispose();
  await backend.sync();
  const end = backend.memory();
  expect({ bytes: end.liveBytes, buffers: end.buffers }).toEqual({ bytes: start.liveBytes, buffers: start.buffers });
}

const backends: [string, () => Backend][] = [
  ['reference', createReferenceBackend],
  ['native', () => createNativeBackend({ fallback: 'error' })],
];

let played = 0;
afterAll(() => {
  console.log(`kv-cache: ${played} histories`);
});

describe.each(backends)('a cache on the %s backend', (_, make) => {
  const backend = make();
  afterAll(() => {
    backend.dispose();
  });

  it.each(['f32', 'f16'] as const)('holds what a naive one holds, after any history (%s)', async (dtype) => {
    const history = fc.record({
      seed: fc.nat(1e6),
      pages: fc.integer({ min: 1, max: 9 }),
      actions: fc.array(action, { maxLength: 14 }),
    });
    await fc.assert(
      fc.asyncProperty(history, async ({ seed, pages, actions }) => {
        await play(backend, dtype, pages, seed, actions);
        played++;
      }),
      { numRuns: sequences, seed: 41 },
    );
  });

  const one = (capacity = 16, dtype: RawKvType = 'f32'): Expected => ({
    cache: new KvCache(backend, { layers, capacity, pageSize, dtype }),
    rows: layers.map(() => ({ k: [], v: [] })),
  });

  it('runs the append op alone: nothing is copied', async () => {
    const held = one(64);
    const random = new Random(1);
    const profile = backend.profile();
    for (const count of [1, 7, 3, 20, 1]) append(held, random, count, 'f32');
    const ops = (await profile.stop()).map(({ op }) => op);
    expect(new Set(ops)).toEqual(new Set(['kv-cache/append']));
    expect(ops.length).toBe(5 * layers.length);
    held.cache.dispose();
  });

  it('tells followers of pages that are copied and dropped, and of the end', () => {
    const { cache } = one(12);
    const events: string[] = [];
    const created = cache.pool.follow('events', () => ({
      copied: (source, target, entries) => events.push(`copy ${source} ${target} ${entries}`),
      dropped: (page, entries) => events.push(`drop ${page} ${entries}`),
      dispose: () => events.push('dispose'),
    }));
    expect(cache.pool.follow('events', () => ({ ...created }))).toBe(created);
    cache.reserve(6);
    const child = cache.fork();
    child.reserve(1);
    child.truncate(5);
    child.dispose();
    cache.truncate(1);
    cache.dispose();
    expect(events).toEqual(['copy 1 2 2', 'drop 2 1', 'drop 2 0', 'drop 1 0', 'drop 0 1', 'drop 0 0', 'dispose']);
  });

  it('copies one page of every layer when a fork writes into a shared one, and only then', async () => {
    const held = one(64);
    const random = new Random(2);
    append(held, random, 6, 'f32');
    const child: Expected = { cache: held.cache.fork(), rows: held.rows.map(({ k, v }) => ({ k: [...k], v: [...v] })) };
    expect(child.cache.bytes()).toMatchObject({ raw: 0, shared: 2 * held.cache.pool.pageBytes });
    const profile = backend.profile();
    append(child, random, 1, 'f32');
    append(child, random, 1, 'f32');
    append(held, random, 1, 'f32');
    const ops = (await profile.stop()).map(({ op }) => op).filter((op) => op !== 'kv-cache/append');
    // A key and a value tensor per layer: cut out and put down again. The parent's page is its own by then.
    expect(ops.length).toBe(2 * 2 * layers.length);
    expect(child.cache.bytes()).toMatchObject({ raw: held.cache.pool.pageBytes, shared: held.cache.pool.pageBytes });
    for (const { cache, rows } of [held, child]) expect(await entries(cache, 0)).toEqual(rows[0]);
    held.cache.dispose();
    child.cache.dispose();
  });

  it('is the same after n appends of one as after one append of n', async () => {
    const [bulk, single] = [one(), one()];
    append(bulk, new Random(3), 9, 'f32');
    const flat = bulk.rows[0].k.flat();
    for (let row = 0; row < 9; row++) {
      for (const [layer, { kHeads, kDim, vDim }] of layers.entries()) {
        single.cache.append(layer, {
          k: fromArray(backend, bulk.rows[layer].k[row], [1, kHeads, kDim]),
          v: fromArray(backend, bulk.rows[layer].v[row], [1, kHeads, vDim]),
        });
      }
    }
    expect((await entries(single.cache, 0)).k.flat()).toEqual(flat);
    expect(await entries(single.cache, 1)).toEqual(await entries(bulk.cache, 1));
    bulk.cache.dispose();
    single.cache.dispose();
  });

  it('is read by attention as contiguous keys and values are', async () => {
    const { kHeads, kDim, vDim } = layers[0];
    const held = one();
    append(held, new Random(4), 11, 'f32');
    const byHead = (rows: number[][], dim: number): number[] =>
      Array.from({ length: kHeads }, (_, head) => rows.map((row) => row.slice(head * dim, (head + 1) * dim))).flat(2);
    const q = fromArray(backend, values(new Random(5), 2 * kHeads * kDim), [1, 2 * kHeads, 1, kDim]);
    const view = held.cache.view(0);
    const paged = attention(q, view.k, view.v, { table: view.table, lengthK: view.lengths[0] });
    const plain = attention(
      q,
      fromArray(backend, byHead(held.rows[0].k, kDim), [1, kHeads, 11, kDim]),
      fromArray(backend, byHead(held.rows[0].v, vDim), [1, kHeads, 11, vDim]),
    );
    expect(await paged.o.read()).toEqual(await plain.o.read());
    held.cache.dispose();
  });

  it('refuses rows that do not fit and is as before', () => {
    const held = one();
    append(held, new Random(6), 3, 'f32');
    const before = held.cache.bytes();
    const [k, v] = [fromArray(backend, [1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 4]), fromArray(backend, [1, 2, 3, 4], [1, 2, 2])];
    const half = fromArray(backend, [1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 4], 'f16');
    const gone = fromArray(backend, [1, 2, 3, 4], [1, 2, 2]);
    gone.dispose();
    expect(() => {
      held.cache.append(0, { k: v, v: k });
    }).toThrow(ShapeError);
    expect(() => {
      held.cache.append(1, { k, v });
    }).toThrow(ShapeError);
    expect(() => {
      held.cache.append(0, { k: half, v });
    }).toThrow(DTypeError);
    expect(() => {
      held.cache.append(0, { k, v: gone });
    }).toThrow(DisposedError);
    expect(() => {
      held.cache.append(2, { k, v });
    }).toThrow(OptionError);
    expect(held.cache.bytes()).toEqual(before);
    expect(held.cache.length()).toBe(3);
    held.cache.dispose();
  });

  it('can be used by several layers of one model in the middle of a step', () => {
    const held = one();
    const { cache } = held;
    append(held, new Random(7), 5, 'f32');
    cache.append(0, {
      k: fromArray(backend, new Float32Array(8), [1, 2, 4]),
      v: fromArray(backend, new Float32Array(4), [1, 2, 2]),
    });
    expect([cache.length(0), cache.length(1), cache.positionsEnd]).toEqual([6, 5, 6]);
    cache.truncate(5);
    expect([cache.length(0), cache.length(1)]).toEqual([5, 5]);
    cache.dispose();
  });

  it('belongs to its owner, not to the scope it was made in', async () => {
    const held = scope(() => ({ held: { made: one() } as object })) as { held: { made: Expected } };
    append(held.held.made, new Random(8), 3, 'f32');
    expect(await entries(held.held.made.cache, 0)).toEqual(held.held.made.rows[0]);
    held.held.made.cache.dispose();
  });

  it('says how much room there is, and fills it to the last entry', () => {
    const held = one(8);
    expect(held.cache.room).toBe(8);
    append(held, new Random(9), 8, 'f32');
    expect(held.cache.room).toBe(0);
    expect(held.cache.length()).toBe(8);
    held.cache.dispose();
  });

  it('throws after dispose, which may be called twice', () => {
    const { cache } = one();
    cache.dispose();
    cache[Symbol.dispose]();
    for (const use of [
      () => cache.view(0),
      () => cache.fork(),
      () => {
        cache.truncate(0);
      },
      () => cache.length(0),
    ])
      expect(use).toThrow(DisposedError);
  });
});

describe('options of a cache', () => {
  const backend = createReferenceBackend();
  const [layer] = layers;

  it.each([
    ['no layers', { layers: [], capacity: 4 }],
    ['capacity 0', { layers, capacity: 0 }],
    ['a fractional page', { layers, capacity: 4, pageSize: 1.5 }],
    ['no heads', { layers: [{ ...layer, kHeads: 0, vHeads: 0 }], capacity: 4 }],
    ['different head counts of keys and values', { layers: [{ ...layer, vHeads: 1 }], capacity: 4 }],
    ['an unknown dimension', { layers: [{ ...layer, vDim: NaN }], capacity: 4 }],
  ])('%s is refused', (_, options) => {
    expect(() => new KvCache(backend, options)).toThrow(OptionError);
    expect(backend.memory().liveBytes).toBe(0);
  });

  it.each([-1, 0.5, 4])('commit takes no length of %s when three entries are there', (length) => {
    const cache = new KvCache(backend, { layers: [layer], capacity: 8 });
    cache.append(0, {
      k: fromArray(backend, new Float32Array(24), [3, 2, 4]),
      v: fromArray(backend, new Float32Array(12), [3, 2, 2]),
    });
    expect(() => {
      cache.commit(length);
    }).toThrow(OptionError);
    cache.dispose();
  });

  it('a pool can be shared from the start', () => {
    const pool = new PagePool(backend, { layers, capacity: 16, pageSize });
    const [a, b] = [new KvCache(backend, { pool }), new KvCache(backend, { pool })];
    pool.leave();
    a.dispose();
    expect(b.room).toBe(16);
    b.dispose();
  });
});
