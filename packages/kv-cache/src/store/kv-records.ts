import { byteSize } from '@filigree/core-tensor';
import { Heap, type Ranked } from '../policy/heap.js';
import type { KvHeader } from './kv-header.js';

/** A page of a file: its entries' positions and numbers (of streams), keys [heads, entries, kDim] and values [heads, entries, vDim], and a checksum. */
export interface KvRecord {
  /** Among all pages of the file. */
  readonly index: number;
  /** Index of the layer, or of layer and head. */
  readonly stream: number;
  readonly layer: number;
  readonly head: number | undefined;
  /** Among the pages of the stream. */
  readonly page: number;
  readonly entries: number;
  /** Entries from its first one to the end of the stream. */
  readonly remaining: number;
  /** Bytes of positions, numbers, keys and values. */
  readonly positionBytes: number;
  readonly numberBytes: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  /** All of these. */
  readonly bytes: number;
}

/** Bytes of a checksum, behind its page. */
export const checksumBytes = 4;

/**
 * The pages of a file, in its order: what is farther from the end of its stream comes first. Every stream gets the same tokens at its end, so that what a file
 * holds up to any page is a cache that is only shorter.
 */
export function* kvRecords(header: KvHeader): Generator<KvRecord, undefined> {
  const { kind, pageSize, layers, lengths, dtype, numbers } = header;
  const dense = kind === 'dense';
  const heads = dense ? 1 : layers[0].heads;
  const next = new Heap<Ranked>();
  for (const [serial, length] of lengths.entries()) if (length > 0) next.place({ rank: -length, serial, place: -1 });
  for (let index = 0; next.first; index++) {
    const item = next.first;
    const [stream, remaining] = [item.serial, -item.rank];
    const layer = Math.floor(stream / heads);
    const entries = Math.min(pageSize, remaining);
    const rows = entries * byteSize(dtype) * (dense ? layers[layer].heads : 1);
    const positionBytes = dense ? 0 : 4 * entries;
    const numberBytes = 4 * numbers.length * entries;
    const [keyBytes, valueBytes] = [rows * layers[layer].kDim, rows * layers[layer].vDim];
    yield {
      ...{ index, stream, layer, head: dense ? undefined : stream % heads, entries, remaining },
      ...{ page: (lengths[stream] - remaining) / pageSize, positionBytes, numberBytes, keyBytes, valueBytes },
      bytes: positionBytes + numberBytes + keyBytes + valueBytes,
    };
    item.rank += entries;
    if (item.rank < 0) next.place(item);
    else next.take(item);
  }
}

/** The first `entries` rows of every head of a page [heads, pageSize, dim], without those that are not in use. */
export function packRows(page: Uint8Array, heads: number, pageSize: number, entries: number): Uint8Array {
  if (entries === pageSize) return page;
  const rowBytes = page.length / (heads * pageSize);
  const packed = new Uint8Array(heads * entries * rowBytes);
  for (let head = 0; head < heads; head++) {
    const start = head * pageSize * rowBytes;
    packed.set(page.subarray(start, start + entries * rowBytes), head * entries * rowBytes);
  }
  return packed;
}

/** The page of {@link packRows}, zeros where no entry is. */
export function unpackRows(packed: Uint8Array, heads: number, pageSize: number, entries: number): Uint8Array {
  if (entries === pageSize) return packed;
  const rowBytes = packed.length / (heads * entries);
  const page = new Uint8Array(heads * pageSize * rowBytes);
  for (let head = 0; head < heads; head++) {
    const start = head * entries * rowBytes;
    page.set(packed.subarray(start, start + entries * rowBytes), head * pageSize * rowBytes);
  }
  return page;
}
