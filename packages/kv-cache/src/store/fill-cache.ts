import type { Backend, Tensor } from '@filigree/core-tensor';
import { KvFormatError } from '../errors.js';
import { KvCache } from '../kv-cache.js';
import { PagePool } from '../page-pool.js';
import { unboundedAt } from '../streams/check.js';
import { StreamCache } from '../streams/stream-cache.js';
import type { KvHeader } from './kv-header.js';
import type { KvFilePage, KvReader } from './kv-reader.js';
import { unpackRows } from './kv-records.js';
import { positionsFit } from './positions.js';

export interface FillOptions {
  /** Of the file, for messages. */
  readonly name: string;
  readonly room: number;
  readonly signal: AbortSignal | undefined;
}

/** A cache with the pages that a reader finds, and room for more. */
export async function fillCache(backend: Backend, reader: KvReader, options: FillOptions): Promise<KvCache | StreamCache> {
  return reader.header.kind === 'dense' ? fillDense(backend, reader, options) : fillStreams(backend, reader, options);
}

async function fillDense(backend: Backend, reader: KvReader, { room, signal }: FillOptions): Promise<KvCache> {
  const { layers: sizes, positionsEnd, pageSize, dtype } = reader.header;
  const layers = sizes.map(({ heads, kDim, vDim }) => ({ kHeads: heads, vHeads: heads, kDim, vDim }));
  // A fork that goes on copies the page that is left unfinished.
  const pool = new PagePool(backend, { layers, capacity: positionsEnd + room + pageSize, pageSize, dtype });
  try {
    const pages: number[] = [];
    for await (const page of reader.pages(signal)) {
      const { layer, page: index } = page.record;
      if (index === pages.length) pages.push(pool.take());
      writePage(pool, layer, pages[index], page);
    }
    const end = reader.header.positionsEnd;
    const cache = new KvCache(backend, { pool, pages: pages.slice(0, Math.ceil(end / pageSize)), length: end });
    // The cache has them; what is left over is of a page whose other layers are damaged.
    for (const page of pages) pool.release(page);
    return cache;
  } finally {
    pool.leave();
  }
}

async function fillStreams(backend: Backend, reader: KvReader, { name, room, signal }: FillOptions): Promise<StreamCache> {
  const { header } = reader;
  const { layers, lengths, pageSize, dtype } = header;
  const [{ heads, kDim, vDim }] = layers;
  const pages = lengths.reduce((sum, length) => sum + Math.ceil(length / pageSize) + Math.ceil(room / pageSize) + 1, 0);
  const sizes = { layers: layers.length, kvHeads: heads, kDim, vDim };
  const cache = new StreamCache(backend, { ...sizes, capacity: pages * pageSize, pageSize, dtype });
  try {
    const streams = lengths.map(() => ({
      pages: [] as number[],
      positions: [] as Int32Array[],
      numbers: header.numbers.map(() => [] as Float32Array[]),
    }));
    for await (const page of reader.pages(signal)) {
      const stream = streams[page.record.stream];
      const id = cache.pool.take();
      stream.pages.push(id);
      stream.positions.push(page.positions);
      for (const [index, numbers] of page.numbers.entries()) stream.numbers[index].push(numbers);
      writePage(cache.pool, 0, id, page);
    }
    const entries = streams.map((stream) => ({ pages: stream.pages, positions: joined(Int32Array, stream.positions) }));
    cache.restore(entries, { end: reader.savedEnd, floor: header.floor });
    for (const [index, { numbers }] of streams.entries()) setNumbers(name, cache, { header, index, numbers });
    // The last pages before the damage may go on where others are missing.
    cache.truncate(reader.header.positionsEnd);
    expectPositions(name, cache, reader.header);
    return cache;
  } catch (error) {
    cache.dispose();
    throw error;
  }
}

/** What a file's checksums do not say: whether its positions are such as caches have. */
function expectPositions(name: string, cache: StreamCache, { positionsEnd: end, floor, lengths }: KvHeader): void {
  for (const [stream, length] of lengths.entries()) {
    const [layer, head] = placeOf(cache, stream);
    const positions = cache.positions(layer, head);
    if (positions.length !== length || !positionsFit(positions, { end, floor }))
      throw new KvFormatError(`${name}: positions of head ${head} of layer ${layer} do not ascend to ${end}`);
  }
}

/** Layer and head of a stream. */
const placeOf = ({ kvHeads }: StreamCache, stream: number): [number, number] => [
  Math.floor(stream / kvHeads),
  stream % kvHeads,
];

interface StreamNumbers {
  readonly header: KvHeader;
  /** Of the stream. */
  readonly index: number;
  /** Pages of every number of the header. */
  readonly numbers: readonly (readonly Float32Array[])[];
}

function setNumbers(file: string, cache: StreamCache, { header, index, numbers }: StreamNumbers): void {
  const [layer, head] = placeOf(cache, index);
  for (const [place, name] of header.numbers.entries()) {
    const values = joined(Float32Array, numbers[place]);
    if (unboundedAt(values) >= 0)
      throw new KvFormatError(`${file}: ${name} of head ${head} of layer ${layer} is NaN or ∞ somewhere`);
    if (name === 'bias') cache.setBias(layer, head, values);
    else cache.setReceived(layer, head, values);
  }
}

function joined<T extends Int32Array | Float32Array>(
  create: new (length: number) => T,
  parts: readonly (Int32Array | Float32Array)[],
): T {
  const all = new create(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function writePage(pool: PagePool, layer: number, id: number, { record, keys, values }: KvFilePage): void {
  const write = (pages: Tensor, packed: Uint8Array): void => {
    const [count, heads, pageSize] = pages.shape;
    const pageBytes = pages.bytes / count;
    const bytes = unpackRows(packed, heads, pageSize, record.entries);
    pool.backend.write(pages.storage, pages.byteOffset + id * pageBytes, bytes);
  };
  write(pool.keys[layer], keys);
  write(pool.values[layer], values);
}
