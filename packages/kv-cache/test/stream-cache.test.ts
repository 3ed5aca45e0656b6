import { createNativeBackend } from '@filigree/backend-native';
import { bytesSink, bytesSource } from '@filigree/checkpoint';
import { createReferenceBackend, fromArray, OptionError, Random, type Backend, type Tensor } from '@filigree/core-tensor';
import { KvCapacityError, loadKv, saveKv, StreamCache, TruncateBelowFloorError, type RawKvType } from '@filigree/kv-cache';
import { fullTier } from '@filigree/testing';
import * as fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import {
  append,
  contents,
  emptyOracle,
  entriesOf,
  fill,
  floorOf,
  forked,
  keep,
  pageSize,
  reserve,
  sizes,
  state,
  truncate,
  type Expected,
} from './support/stream-oracle.js';
import { commit, merge, overwrite, reposition, setNumbers } from './support/stream-edits-oracle.js';

const sequences = fullTier ? 3000 : 300;

/** One step of a generated history; numbers are reduced to what is possible then. */
interface Action {
  readonly kind:
    | 'fill'
    | 'append'
    | 'step'
    | 'reserve'
    | 'keep'
    | 'truncate'
    | 'fork'
    | 'dispose'
    | 'numbers'
    | 'overwrite'
    | 'merge'
    | 'reposition'
    | 'commit';
  readonly which: number;
  readonly layer: number;
  readonly head: number;
  readonly count: number;
  readonly source: RawKvType;
}

const action: fc.Arbitrary<Action> = fc.record({
  kind: fc.oneof(
    ...(
      [
        ['fill', 4],
        ['append', 1],
        ['step', 3],
        ['reserve', 3],
        ['keep', 5],
        ['truncate', 2],
        ['fork', 2],
        ['dispose', 1],
        ['numbers', 4],
        ['overwrite', 3],
        ['merge', 2],
        ['reposition', 4],
        ['commit', 1],
      ] as const
    ).map(([kind, weight]) => ({ weight, arbitrary: fc.constant(kind) })),
  ),
  which: fc.nat(9),
  layer: fc.nat(sizes.layers - 1),
  head: fc.nat(sizes.kvHeads - 1),
  count: fc.nat(13),
  source: fc.constantFrom('f32' as const, 'f16' as const),
});

async function perform(held: Expected, { kind, layer, head, count, source }: Action, random: Random): Promise<void> {
  switch (kind) {
    case 'fill':
      fill(held, layer, random, { length: count, source });
      break;
    case 'append':
      append(held, layer, random, count);
      break;
    case 'step':
      for (let index = 0; index < sizes.layers; index++) append(held, index, random, count);
      break;
    case 'reserve':
      reserve(held, random, count + 1);
      break;
    case 'keep':
      keep(held, layer, head, random);
      break;
    case 'numbers':
      setNumbers(held, layer, head, random);
      break;
    case 'overwrite':
      overwrite(held, layer, head, random);
      break;
    case 'merge':
      await merge(held, layer, head, random);
      break;
    case 'reposition':
      await reposition(held, layer, random);
      break;
    case 'commit':
      commit(held, count);
      break;
    default:
      truncate(held, 2 * count);
  }
}

/** An action, or the refusal that its situation calls for, which changes nothing. */
async function attempt(held: Expected, step: Action, random: Random): Promise<void> {
  const before = state(held);
  const layers = held.ends.length;
  try {
    await perform(held, step, random);
    if (step.kind === 'truncate')
      expect(2 * step.count).toBeGreaterThanOrEqual(Math.min(floorOf(held), held.cache.positionsEnd));
  } catch (error) {
    if (error instanceof TruncateBelowFloorError) expect(2 * step.count).toBeLessThan(floorOf(held));
    else if (error instanceof OptionError && step.kind === 'fill')
      expect(held.heads[step.layer].some(({ length }) => length > 0)).toBe(true);
    else if (error instanceof OptionError && step.kind === 'reserve') expect(new Set(held.ends).size).toBe(layers);
    else if (error instanceof OptionError && step.kind === 'commit')
      expect(step.count).toBeGreaterThan(held.cache.positionsEnd);
    else expect(error).toBeInstanceOf(KvCapacityError);
    // Layers of a step are refused one by one; what came before is in the oracle.
    if (step.kind !== 'step') expect(state(held)).toEqual(before);
  }
}

/** Pages in use are exactly those that the lengths imply, shared ones counted once. */
function checkPages(all: readonly Expected[], backend: Backend, startBytes: number): void {
  const { pool } = all[0].cache;
  const { bias, received, originals } = all[0].beside;
  const onHost = received ? 4 * pageSize : 0;
  const onDevice = (bias ? 4 * pageSize : 0) + (originals ? pool.keys[0].bytes / pool.pages : 0);
  let [meta, held] = [0, 0];
  for (const { cache, heads, ends } of all) {
    const lengths = heads.flat().map(({ length }) => length);
    const pages = lengths.reduce((sum, length) => sum + Math.ceil(length / pageSize), 0);
    const bytes = cache.bytes();
    expect(bytes.raw + bytes.shared).toBe(pages * (pool.pageBytes + onDevice + onHost));
    expect(bytes.total).toBe(bytes.raw + bytes.shared + bytes.meta);
    expect(cache.length()).toBe(lengths.reduce((a, b) => a + b, 0));
    expect(cache.length(0)).toBe(Math.max(...heads[0].map(({ length }) => length)));
    expect(cache.positionsEnd).toBe(Math.max(...ends));
    meta += bytes.meta;
    held += pages;
  }
  const owners = Array.from({ length: pool.pages }, (_, page) => pool.owners(page));
  expect(owners.filter((count) => count > 0).length).toBe(pool.pages - pool.freePages);
  expect(owners.reduce((sum, count) => sum + count, 0)).toBe(held);
  // Positions, which `meta` counts, are on the host.
  const live = backend.memory().liveBytes - startBytes - pool.bytes - pool.pages * onDevice;
  expect(live).toBeGreaterThanOrEqual(0);
  expect(live).toBeLessThanOrEqual(meta);
}

/** A cache goes into a file and comes back as it was, or is refused for what files do not hold; whether it went. */
async function checkFile(held: Expected): Promise<boolean> {
  const sink = bytesSink();
  const positions = held.heads.flat().map((list) => list.map(({ position }) => position));
  const ordered = positions.every((list) => list.every((position, entry) => entry === 0 || position > list[entry - 1]));
  try {
    await saveKv(sink, held.cache, { model: 'any' });
  } catch (error) {
    expect(error).toBeInstanceOf(OptionError);
    // Layers that another one is ahead of are in the middle of a step, as far as their floors tell.
    expect(ordered && new Set(held.ends).size === 1 && new Set(held.floors).size === 1).toBe(false);
    return false;
  }
  expect(ordered).toBe(true);
  const { cache } = await loadKv(bytesSource(sink.bytes(), 'file'), held.cache.backend, { model: 'any' });
  if (!(cache instanceof StreamCache)) throw new Error('expected streams');
  for (const [layer, lists] of held.heads.entries()) expect(await contents(cache, layer)).toEqual(entriesOf(lists));
  expect(cache.positionsEnd).toBe(held.cache.positionsEnd);
  cache.dispose();
  return true;
}

async function play(
  backend: Backend,
  dtype: RawKvType,
  { seed, pages, actions }: { readonly seed: number; readonly pages: number; readonly actions: readonly Action[] },
): Promise<void> {
  await backend.sync();
  const start = backend.memory();
  const random = new Random(seed);
  let all = [emptyOracle(new StreamCache(backend, { ...sizes, capacity: pages * pageSize, pageSize, dtype }))];
  const { pool } = all[0].cache;
  for (const step of actions) {
    const held = all[step.which % all.length];
    if (step.kind === 'fork') all.push(forked(held));
    else if (step.kind === 'dispose') {
      held.cache.dispose();
      all = all.filter((other) => other !== held);
      if (all.length === 0) break;
    } else await attempt(held, step, random);
    checkPages(all, backend, start.liveBytes);
  }
  for (const { cache, heads } of all)
    for (const [layer, lists] of heads.entries()) expect(await contents(cache, layer)).toEqual(entriesOf(lists));
  for (const held of all) if (await checkFile(held)) filed++;
  for (const { cache } of all) cache.dispose();
  expect(pool.freePages).toBe(pool.pages);
  await backend.sync();
  const end = backend.memory();
  expect({ bytes: end.liveBytes, buffers: end.buffers }).toEqual({ bytes: start.liveBytes, buffers: start.buffers });
}

const backends: [string, () => Backend][] = [
  ['reference', createReferenceBackend],
  ['native', () => createNativeBackend({ fallback: 'error' })],
];

let [played, filed] = [0, 0];
afterAll(() => {
  console.log(`stream-cache: ${played} histories, ${filed} caches through a file`);
});

describe.each(backends)('streams on the %s backend', (_, make) => {
  const backend = make();
  afterAll(() => {
    backend.dispose();
  });

  it.each(['f32', 'f16'] as const)('hold what lists hold, after any history (%s)', async (dtype) => {
    const history = fc.record({
      seed: fc.nat(1e6),
      pages: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 41, max: 200 })),
      actions: fc.array(action, { maxLength: 24, size: 'max' }),
    });
    await fc.assert(
      fc.asyncProperty(history, async (one) => {
        await play(backend, dtype, one);
        played++;
      }),
      { numRuns: sequences, seed: 43 },
    );
  });

  const make4 = (pages = 8): Expected =>
    emptyOracle(new StreamCache(backend, { ...sizes, capacity: pages * pageSize, pageSize }));
  const zeros = (shape: readonly number[], dtype: RawKvType = 'f32'): Tensor =>
    fromArray(backend, new Float32Array(shape.reduce((a, b) => a * b, 1)), shape, dtype);

  it('says where a step writes and what it reads', async () => {
    const held = make4();
    const random = new Random(1);
    fill(held, 0, random, { length: 6, source: 'f32' });
    fill(held, 1, random, { length: 6, source: 'f32' });
    const { positions, slots, lengths, table } = held.cache.reserve(2);
    expect(Array.from(await positions.readNumbers())).toEqual([6, 7]);
    expect(slots.shape).toEqual([sizes.layers, 2 * sizes.kvHeads]);
    expect(Array.from(await lengths.readNumbers())).toEqual(held.heads.flat().map(({ length }) => length + 2));
    const pages = await table.readNumbers();
    const written = await slots.readNumbers();
    for (const [stream, list] of held.heads.flat().entries()) {
      const [layer, head] = [Math.floor(stream / sizes.kvHeads), stream % sizes.kvHeads];
      for (const token of [0, 1]) {
        const entry = list.length + token;
        const slot = pages[stream * table.shape[1] + Math.floor(entry / pageSize)] * pageSize + (entry % pageSize);
        expect(written[layer * slots.shape[1] + token * sizes.kvHeads + head]).toBe(slot);
      }
    }
    held.cache.dispose();
  });

  it('compress a full pool, whose pages go round', async () => {
    const held = make4(4);
    append(held, 0, new Random(2), 2 * pageSize);
    expect(held.cache.pool.freePages).toBe(0);
    held.cache.keep(0, 0, [1, 3, 5, 7]);
    expect(held.cache.pool.freePages).toBe(1);
    expect(await contents(held.cache, 0)).toEqual(
      entriesOf([[1, 3, 5, 7].map((id) => held.heads[0][0][id]), held.heads[0][1]]),
    );
    held.cache.dispose();
  });

  it('cut the end of a shared page without a page to spare', () => {
    const held = make4(4);
    append(held, 0, new Random(3), 2 * pageSize);
    const child = held.cache.fork();
    child.keep(0, 0, [0, 1]);
    expect(child.length(0, 0)).toBe(2);
    expect(() => {
      child.keep(0, 1, [1, 2]);
    }).toThrow(KvCapacityError);
    expect(child.length(0, 1)).toBe(2 * pageSize);
    expect(held.cache.length(0, 0)).toBe(2 * pageSize);
    child.dispose();
    held.cache.dispose();
  });

  it('go back to before a step that not all layers had room for', async () => {
    const held = make4(3);
    const random = new Random(4);
    append(held, 0, random, 2);
    expect(() => {
      append(held, 1, random, 2);
    }).toThrow(KvCapacityError);
    expect([held.cache.length(0), held.cache.length(1), held.cache.positionsEnd]).toEqual([2, 0, 2]);
    truncate(held, 0);
    expect(held.cache.pool.freePages).toBe(3);
    expect(await contents(held.cache, 0)).toEqual([[], []]);
    held.cache.dispose();
  });

  it('go back to no place from before entries were evicted', () => {
    const { cache } = make4();
    cache.fill(0, { k: zeros([2, 6, 4]), v: zeros([2, 6, 2]) }, [
      [0, 5],
      [0, 1, 2, 3, 4, 5],
    ]);
    cache.fill(1, { k: zeros([2, 6, 4]), v: zeros([2, 6, 2]) }, [[], []]);
    cache.append(0, { k: zeros([1, 2, 4]), v: zeros([1, 2, 2]) });
    cache.append(1, { k: zeros([1, 2, 4]), v: zeros([1, 2, 2]) });
    expect(() => {
      cache.truncate(5);
    }).toThrow(TruncateBelowFloorError);
    cache.truncate(6);
    expect([cache.length(0, 0), cache.length(0, 1), cache.length(1), cache.positionsEnd]).toEqual([2, 6, 0, 6]);
    cache.dispose();
  });
});
