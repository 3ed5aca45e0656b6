import { createNativeBackend } from '@filigree/backend-native';
import { bytesSink, bytesSource } from '@filigree/checkpoint';
import {
  AbortError,
  createReferenceBackend,
  fromArray,
  OptionError,
  Random,
  scope,
  type Backend,
  type Tensor,
} from '@filigree/core-tensor';
import {
  KvCache,
  KvCorruptError,
  KvFormatError,
  KvMismatchError,
  loadKv,
  readKvHeader,
  saveKv,
  StreamCache,
  type LoadKvOptions,
  type RawKvType,
} from '@filigree/kv-cache';
import { fullTier } from '@filigree/testing';
import * as fc from 'fast-check';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { crc32c } from '../src/store/crc32c.js';
import { attachmentPlace, pageChecksum, readFrame } from '../src/store/kv-frame.js';
import { kvRecords } from '../src/store/kv-records.js';

const pageSize = 4;
const layers = [
  { kHeads: 2, vHeads: 2, kDim: 4, vDim: 2 },
  { kHeads: 1, vHeads: 1, kDim: 2, vDim: 6 },
];
const model = 'tiny of 2026';

const normal = (backend: Backend, random: Random, shape: number[]): Tensor =>
  fromArray(
    backend,
    Array.from({ length: shape.reduce((product, size) => product * size, 1) }, () => random.nextNormal()),
    shape,
  );

function append(cache: KvCache, count: number, random: Random): void {
  for (const [layer, { kHeads, kDim, vDim }] of layers.entries())
    scope(() => {
      const k = normal(cache.backend, random, [count, kHeads, kDim]);
      cache.append(layer, { k, v: normal(cache.backend, random, [count, kHeads, vDim]) });
    });
}

function dense(backend: Backend, dtype: RawKvType, length: number): KvCache {
  const cache = new KvCache(backend, { layers, capacity: length + 2 * pageSize, pageSize, dtype });
  append(cache, length, new Random(length));
  return cache;
}

function appendStreams(cache: StreamCache, count: number, random: Random): void {
  for (let layer = 0; layer < cache.layers; layer++)
    scope(() => {
      const k = normal(cache.backend, random, [count, 2, 4]);
      cache.append(layer, { k, v: normal(cache.backend, random, [count, 2, 2]) });
    });
}

/** Two layers of two heads; every head keeps entries of its own of a prompt, and all get `more` tokens after it. */
function streams(backend: Backend, dtype: RawKvType, prompt: number, more: number): StreamCache {
  const cache = new StreamCache(backend, { layers: 2, kvHeads: 2, kDim: 4, vDim: 2, capacity: 400, pageSize, dtype });
  const random = new Random(prompt);
  for (let layer = 0; layer < 2; layer++) {
    const kept = [0, 1].map((head) =>
      Array.from({ length: prompt }, (_, id) => id).filter((id) => id % (2 + layer + head) === 0),
    );
    scope(() => {
      const k = normal(backend, random, [2, prompt, 4]);
      cache.fill(layer, { k, v: normal(backend, random, [2, prompt, 2]) }, kept);
    });
  }
  appendStreams(cache, more, random);
  return cache;
}

/** The same, with numbers beside the entries. */
function numbered(backend: Backend, dtype: RawKvType): StreamCache {
  const cache = streams(backend, dtype, 21, 6);
  const random = new Random(7);
  for (let layer = 0; layer < 2; layer++) {
    const count = cache.length(layer, 1);
    cache.setBias(
      layer,
      1,
      Float32Array.from({ length: count }, (_, entry) => (entry === 2 ? -Infinity : random.nextNormal())),
    );
    cache.setReceived(
      layer,
      0,
      Float32Array.from({ length: cache.length(layer, 0) }, () => random.nextFloat()),
    );
  }
  return cache;
}

/** What stands beside the entries. */
const numbersOf = (cache: StreamCache): Float32Array[] =>
  [0, 1].flatMap((layer) => [0, 1].flatMap((head) => [cache.bias(layer, head), cache.received(layer, head)]));

async function save(cache: KvCache | StreamCache, tokens: number[] = []): Promise<Uint8Array> {
  const sink = bytesSink();
  await saveKv(sink, cache, { model, tokens });
  return sink.bytes();
}

const load = (bytes: Uint8Array, backend: Backend, options: Partial<LoadKvOptions> = {}): ReturnType<typeof loadKv> =>
  loadKv(bytesSource(bytes, 'file'), backend, { model, ...options });

/** Every stored number of a layer, through the table of its view. */
async function entries(cache: KvCache | StreamCache, layer: number): Promise<number[]> {
  const { k, v, table, lengths } = cache.view(layer);
  const pages = table ? await table.readNumbers() : [];
  const width = (table?.shape[1] ?? 0) * 1;
  const all: number[] = [];
  for (const tensor of [k, v]) {
    const [, heads, size, dim] = tensor.shape;
    const data = await tensor.readNumbers();
    for (const [row, length] of lengths.entries())
      for (let entry = 0; entry < length; entry++)
        for (let head = 0; head < heads; head++) {
          const page = pages[row * width + Math.floor(entry / size)];
          const at = ((page * heads + head) * size + (entry % size)) * dim;
          all.push(...data.subarray(at, at + dim));
        }
  }
  return all;
}

const backends: [string, () => Backend][] = [
  ['reference', createReferenceBackend],
  ['native', () => createNativeBackend({ threads: 1, fallback: 'error' })],
];

describe.each(backends)('a saved cache on the %s backend', (_, make) => {
  const backend = make();
  afterAll(async () => {
    await backend.sync();
    expect(backend.memory().buffers).toBe(0);
    backend.dispose();
  });

  const made: [string, () => KvCache | StreamCache][] = (['f32', 'f16'] as const).flatMap((dtype) => [
    [`all entries, ${dtype}`, () => dense(backend, dtype, 11)],
    [`whole pages, ${dtype}`, () => dense(backend, dtype, 8)],
    [`nothing, ${dtype}`, () => dense(backend, dtype, 0)],
    [`entries of each head, ${dtype}`, () => streams(backend, dtype, 21, 6)],
    [`entries of each head of a prompt, ${dtype}`, () => streams(backend, dtype, 13, 0)],
    [`entries with biases, and attention they received, ${dtype}`, () => numbered(backend, dtype)],
  ]);

  it.each(made)('comes back bit for bit and goes on: %s', async (_name, create) => {
    const cache = create();
    const bytes = await save(cache, [3, 1, 2]);
    const loaded = await load(bytes, backend, { room: 3 });
    expect([loaded.damage, loaded.cache.positionsEnd]).toEqual([undefined, cache.positionsEnd]);
    expect(loaded.tokens).toEqual([3, 1, 2].slice(0, cache.positionsEnd));
    expect(loaded.cache.constructor).toBe(cache.constructor);
    for (const other of [cache, loaded.cache]) {
      if (other instanceof KvCache) append(other, 3, new Random(5));
      else appendStreams(other, 3, new Random(5));
    }
    for (const layer of [0, 1]) expect(await entries(loaded.cache, layer)).toEqual(await entries(cache, layer));
    if (cache instanceof StreamCache && loaded.cache instanceof StreamCache) {
      expect(loaded.cache.floor).toBe(cache.floor);
      for (const at of [0, 1]) expect(loaded.cache.positions(at, 1)).toEqual(cache.positions(at, 1));
      expect(numbersOf(loaded.cache)).toEqual(numbersOf(cache));
    }
    expect(await save(loaded.cache)).toEqual(await save(cache));
    cache.dispose();
    loaded.cache.dispose();
  });

  it('is what it was when saving began, though the cache goes on', async () => {
    const cache = dense(backend, 'f32', 10);
    const before = await save(cache);
    const saving = save(cache);
    append(cache, 1, new Random(1));
    expect(await saving).toEqual(before);
    cache.dispose();
  });

  it('says nothing of memory that was in use before', async () => {
    const cache = dense(backend, 'f16', 11);
    cache.truncate(9);
    const copy = dense(backend, 'f16', 11);
    copy.truncate(8);
    for (const other of [cache, copy]) {
      other.truncate(8);
      append(other, 1, new Random(2));
    }
    expect(await save(copy)).toEqual(await save(cache));
    cache.dispose();
    copy.dispose();
  });

  it('takes the rest of a damaged file when asked to', async () => {
    const cache = dense(backend, 'f32', 11);
    const bytes = await save(
      cache,
      Array.from({ length: 11 }, (__, index) => index),
    );
    // Damage in the second page of layer 1.
    const broken = bytes.slice();
    const pageBytes = [2 * 6, 8].map((numbers) => 4 * 4 * numbers + 4);
    broken[bytes.length - (pageBytes[0] + pageBytes[1] - 8) * (3 / 4) - 8 - 20] ^= 4;
    const error: unknown = await load(broken, backend).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(KvCorruptError);
    expect(error).toMatchObject({ kind: 'checksum', layer: 1, page: 1, head: undefined });
    expect(String(error)).toContain('page 1 of layer 1 is wrong; the 4 of 11 positions before it are intact');
    const { cache: part, tokens, damage } = await load(broken, backend, { partial: true, room: 8 });
    expect([part.positionsEnd, tokens, damage?.page]).toEqual([4, [0, 1, 2, 3], 1]);
    cache.truncate(4);
    for (const layer of [0, 1]) expect(await entries(part, layer)).toEqual(await entries(cache, layer));
    cache.dispose();
    part.dispose();
  });
});

describe('a damaged file', () => {
  const backend = createReferenceBackend();
  const files: { bytes: Uint8Array; cache: KvCache | StreamCache }[] = [];
  beforeAll(async () => {
    for (const cache of [dense(backend, 'f16', 11), streams(backend, 'f32', 21, 9), streams(backend, 'f16', 5, 0)])
      files.push({ cache, bytes: await save(cache) });
  });
  afterAll(() => {
    for (const { cache } of files) cache.dispose();
    expect(backend.memory().buffers).toBe(0);
    backend.dispose();
  });

  it('is refused with a typed error wherever a bit is flipped or the end is missing', async () => {
    for (const { bytes } of files) {
      const step = fullTier ? 1 : 7;
      for (let at = 0; at < bytes.length; at += step) {
        const flipped = bytes.slice();
        flipped[at] ^= 1 << (at % 8);
        const error: unknown = await load(flipped, backend).catch((caught: unknown) => caught);
        expect(error instanceof KvFormatError || error instanceof KvCorruptError, `bit of byte ${at}`).toBe(true);
        const cut: unknown = await load(bytes.subarray(0, at), backend).catch((caught: unknown) => caught);
        expect(cut instanceof KvFormatError || cut instanceof KvCorruptError, `cut at ${at}`).toBe(true);
      }
    }
  });

  it('gives up to the first broken page what the cache was when it ended there', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(2), fc.nat(), fc.boolean(), async (which, seed, flip) => {
        const { bytes, cache } = files[which];
        const at = seed % bytes.length;
        const damaged = flip ? bytes.slice() : bytes.subarray(0, at);
        if (flip) damaged[at] ^= 16;
        const result = await load(damaged, backend, { partial: true }).catch((caught: unknown) => caught);
        if (result instanceof KvFormatError) return;
        const floor = cache instanceof StreamCache ? cache.floor : 0;
        if (result instanceof KvCorruptError) {
          expect(floor).toBeGreaterThan(0);
          expect(String(result)).toContain('nothing can be taken');
          return;
        }
        const { cache: part, damage, attachment } = result as Awaited<ReturnType<typeof loadKv>>;
        // Only the checksum of an attachment of no bytes is damaged otherwise.
        if (attachment === undefined && damage === undefined) expect(part.positionsEnd).toBe(cache.positionsEnd);
        else expect(damage).toBeInstanceOf(KvCorruptError);
        expect(part.positionsEnd).toBeGreaterThanOrEqual(floor);
        if (damage) expect(part.positionsEnd).toBeLessThan(cache.positionsEnd);
        const short = cache.fork();
        short.truncate(part.positionsEnd);
        expect(await save(part)).toEqual(await save(short));
        short.dispose();
        part.dispose();
      }),
      { numRuns: fullTier ? 3000 : 300, seed: 3 },
    );
  });

  it('names the page, the layer and the head', async () => {
    const { bytes } = files[1];
    const error: unknown = await load(bytes.subarray(0, bytes.length - 1), backend).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'KV_CORRUPT', kind: 'truncated', layer: 1 });
    expect(String(error)).toMatch(/the file ends before page \d of head \d of layer 1; the \d+ of 30 positions before it are/);
  });

  it('without its attachment has all pages', async () => {
    const sink = bytesSink();
    await saveKv(sink, files[0].cache, { model, attachment: Uint8Array.of(1, 2, 3) });
    const bytes = sink.bytes();
    const whole = await load(bytes, backend);
    expect(whole.attachment).toEqual(Uint8Array.of(1, 2, 3));
    const { pagesAt } = await readFrame(bytesSource(bytes));
    bytes[pagesAt - 6] ^= 1;
    await expect(load(bytes, backend)).rejects.toThrow(/checksum of the attachment/);
    const part = await load(bytes, backend, { partial: true });
    expect([part.attachment, part.damage, part.cache.positionsEnd]).toEqual([undefined, undefined, 11]);
    whole.cache.dispose();
    part.cache.dispose();
  });

  it('cannot stand in for another one by pages of equal size', async () => {
    const other = dense(backend, 'f16', 8);
    const [a, b] = [await save(other), files[0].bytes];
    other.dispose();
    const mixed = a.slice();
    mixed.set(b.subarray(b.length - 60), a.length - 60);
    await expect(load(mixed, backend)).rejects.toThrow(KvCorruptError);
    const swapped = a.slice();
    const page = 2 * (4 * 2 * 6) + 4 + 2 * 4 * 8 + 4;
    swapped.copyWithin(a.length - page, a.length - 2 * page, a.length - page);
    await expect(load(swapped, backend)).rejects.toThrow(KvCorruptError);
  });
});

describe('a file of someone else', () => {
  const backend = createReferenceBackend();
  afterAll(() => {
    backend.dispose();
  });

  const header = {
    ...{
      kind: 'dense',
      model,
      tokens: [],
      dtype: 'f32',
      attachmentBytes: 0,
      pageSize: 4,
      positionsEnd: 4,
      floor: 0,
      lengths: [4],
    },
    layers: [{ heads: 1, kDim: 2, vDim: 2 }],
  };

  function file(fields: object, extra = 0): Uint8Array {
    const text = new TextEncoder().encode(JSON.stringify({ ...header, ...fields }));
    const bytes = new Uint8Array(24 + text.length + extra);
    bytes.set(new TextEncoder().encode('FILIGKV\0'));
    const view = new DataView(bytes.buffer);
    for (const [index, value] of [1, text.length, crc32c(text)].entries()) view.setUint32(8 + 4 * index, value, true);
    bytes.set(text, 20);
    view.setUint32(20 + text.length, pageChecksum(crc32c(text), attachmentPlace), true);
    return bytes;
  }

  const huge = 2 ** 31 - 1;
  it.each([
    ['lengths beyond the file', { positionsEnd: huge, lengths: [huge] }],
    ['pages of one entry', { pageSize: 1, positionsEnd: huge, lengths: [huge] }],
    [
      'many layers',
      { layers: Array<object>(4096).fill(header.layers[0]), lengths: Array<number>(4096).fill(huge), positionsEnd: huge },
    ],
    ['a huge page', { pageSize: 65_536, layers: [{ heads: 4096, kDim: 65_536, vDim: 65_536 }] }],
    ['lengths that are none', { lengths: [-4] }],
    ['a length of a dense layer below the others', { lengths: [3] }],
    ['too few lengths', { lengths: [] }],
    ['a floor without evictions', { floor: 2 }],
    ['no layers', { layers: [], lengths: [] }],
    ['layers that are no objects', { layers: [7] }],
    ['an attachment beyond the file', { attachmentBytes: 60_000_000 }],
    ['an unknown kind', { kind: 'sparse' }],
    ['an unknown type', { dtype: 'f8' }],
    ['a model that is no name', { model: 7 }],
    ['tokens that are none', { tokens: ['a'] }],
    ['numbers of a dense cache', { numbers: ['bias'] }],
    ['numbers twice', { kind: 'streams', numbers: ['bias', 'bias'] }],
    ['unknown numbers', { kind: 'streams', numbers: ['bias', 'mass'] }],
    ['numbers that are no list', { kind: 'streams', numbers: 'bias' }],
    [
      'streams of different layers',
      { kind: 'streams', lengths: [4, 4], layers: [header.layers[0], { heads: 1, kDim: 4, vDim: 2 }] },
    ],
  ])('is refused before anything is allocated: %s', async (_, fields) => {
    const before = backend.memory();
    for (const partial of [false, true]) {
      const result = await load(file(fields), backend, { partial }).catch((caught: unknown) => caught);
      if (partial && !(result instanceof Error)) {
        // Nothing of it is there, which is a part too.
        const { cache } = result as Awaited<ReturnType<typeof loadKv>>;
        expect(cache.positionsEnd).toBe(0);
        cache.dispose();
      } else expect(result instanceof KvFormatError || result instanceof KvCorruptError, String(result)).toBe(true);
    }
    expect(backend.memory().peakBytes - before.liveBytes).toBeLessThan(16 * 2 ** 20);
  });

  it('is refused when positions are such as no cache has', async () => {
    const cache = streams(backend, 'f32', 9, 3);
    const bytes = await save(cache);
    cache.dispose();
    const { header, checksum, pagesAt: end } = await readFrame(bytesSource(bytes));
    const [record] = kvRecords(header);
    const view = new DataView(bytes.buffer);
    // The first page holds positions 0, 2, 4, 6.
    expect([0, 1, 2, 3].map((entry) => view.getInt32(end + 4 * entry, true))).toEqual([0, 2, 4, 6]);
    for (const position of [-1, 0, 4, 9, 2 ** 31 - 1]) {
      view.setInt32(end + 4, position, true);
      view.setUint32(end + record.bytes, pageChecksum(checksum, 0, bytes.subarray(end, end + record.bytes)), true);
      await expect(load(bytes, backend)).rejects.toThrow(/positions of head 0 of layer 0 do not ascend to 12/);
      await expect(load(bytes, backend, { partial: true })).rejects.toThrow(KvFormatError);
    }
    expect(backend.memory().buffers).toBe(0);
  });

  it('is refused when biases are no numbers to add', async () => {
    const cache = numbered(backend, 'f32');
    const bytes = await save(cache);
    cache.dispose();
    const { header, checksum, pagesAt: end } = await readFrame(bytesSource(bytes));
    const [record] = kvRecords(header);
    const view = new DataView(bytes.buffer);
    for (const bias of [NaN, Infinity]) {
      view.setFloat32(end + record.positionBytes, bias, true);
      view.setUint32(end + record.bytes, pageChecksum(checksum, 0, bytes.subarray(end, end + record.bytes)), true);
      for (const partial of [false, true])
        await expect(load(bytes, backend, { partial })).rejects.toThrow(
          new KvFormatError('file: bias of head 0 of layer 0 is NaN or ∞ somewhere'),
        );
    }
    expect(backend.memory().buffers).toBe(0);
  });

  it('is refused when it is something else', async () => {
    for (const bytes of [new Uint8Array(0), new Uint8Array(19), new TextEncoder().encode('GGUF and more than that many bytes')])
      await expect(load(bytes, backend)).rejects.toThrow(KvFormatError);
    await expect(load(file({}, 10_000), backend)).rejects.toThrow(/its header describes/);
  });

  it('of another model, other layers or numbers is refused, and says what it is', async () => {
    const cache = dense(backend, 'f16', 5);
    const bytes = await save(cache, [1, 2]);
    expect(await readKvHeader(bytesSource(bytes))).toMatchObject({ model, tokens: [1, 2], kind: 'dense', lengths: [5, 5] });
    const refused = async (options: Partial<LoadKvOptions>, message: RegExp): Promise<void> => {
      const error: unknown = await load(bytes, backend, options).catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(KvMismatchError);
      expect(String(error)).toMatch(message);
    };
    await refused({ model: 'other' }, /saved by the model "tiny of 2026", not by "other"/);
    await refused({ expect: { layers, dtype: 'f32' } }, /entries are f16, f32 was expected/);
    await refused({ expect: { layers: [layers[0]] } }, /has 2 layers, 1 were expected/);
    await refused({ expect: { layers: [layers[0], layers[0]] } }, /layer 1 has 1 heads of 2 and 6 channels, 2 of 4 and 2/);
    const { cache: same } = await load(bytes, backend, { expect: { layers, dtype: 'f16' } });
    same.dispose();
    cache.dispose();
  });
});

describe('saving', () => {
  const backend = createReferenceBackend();
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'filigree-kv-'));
  });
  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
    backend.dispose();
  });

  it('writes a file as a whole or not at all', async () => {
    const cache = dense(backend, 'f16', 40);
    const path = join(folder, 'cache.kv');
    await writeFile(path, 'before');
    const controller = new AbortController();
    controller.abort();
    await expect(saveKv(path, cache, { model, signal: controller.signal })).rejects.toThrow(AbortError);
    expect(await readFile(path, 'utf8')).toBe('before');
    await saveKv(path, cache, { model });
    expect(await readdir(folder)).toEqual(['cache.kv']);
    const { cache: loaded } = await loadKv(path, backend, { model });
    expect(await save(loaded)).toEqual(await save(cache));
    for (const other of [cache, loaded]) other.dispose();
  });

  it('aborts the sink and gives the fork back when writing fails', async () => {
    const cache = dense(backend, 'f16', 40);
    const { freePages } = cache.pool;
    const events: string[] = [];
    const sink = {
      name: 'full disk',
      write: () => (events.push('write') > 3 ? Promise.reject(new Error('full')) : Promise.resolve()),
      close: () => Promise.resolve(),
      abort: () => Promise.resolve(void events.push('abort')),
    };
    await expect(saveKv(sink, cache, { model })).rejects.toThrow('full');
    expect(events.at(-1)).toBe('abort');
    expect([cache.pool.freePages, cache.bytes().shared]).toEqual([freePages, 0]);
    cache.dispose();
  });

  it('refuses a cache in the middle of a step, and tokens that are none', async () => {
    const cache = dense(backend, 'f32', 3);
    scope(() => {
      const k = normal(backend, new Random(1), [1, 2, 4]);
      cache.append(0, { k, v: normal(backend, new Random(1), [1, 2, 2]) });
    });
    await expect(saveKv(bytesSink(), cache, { model })).rejects.toThrow(/middle of a step/);
    cache.truncate(3);
    await expect(saveKv(bytesSink(), cache, { model, tokens: [-1] })).rejects.toThrow(/tokens\[0\] must be an integer/);
    cache.dispose();
    await expect(loadKv(bytesSource(new Uint8Array(0)), backend, { model, room: -1 })).rejects.toThrow(OptionError);
  });

  it('checks by CRC-32C', () => {
    expect(crc32c(new TextEncoder().encode('123456789'))).toBe(0xe3069283);
    const bytes = Uint8Array.from({ length: 32 }, (_, index) => index);
    expect(crc32c(bytes)).toBe(0x46dd794e);
    expect(crc32c(bytes.subarray(9), crc32c(bytes.subarray(0, 9)))).toBe(0x46dd794e);
  });
});
