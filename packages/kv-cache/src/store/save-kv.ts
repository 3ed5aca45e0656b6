import { writeTo, type ByteSink } from '@filigree/checkpoint';
import { encodeValues, OptionError, throwIfAborted, type Tensor } from '@filigree/core-tensor';
import { KvCache } from '../kv-cache.js';
import type { StreamCache } from '../streams/stream-cache.js';
import { entryNumbers, type EntryNumber } from '../streams/page-numbers.js';
import { attachmentPlace, encodeFrame, withChecksum } from './kv-frame.js';
import { checkHeader, type KvHeader } from './kv-header.js';
import { kvRecords, packRows, type KvRecord } from './kv-records.js';
import { positionsFit } from './positions.js';

export interface SaveKvOptions {
  /** What the entries were computed by: model, weights, adapter. {@link loadKv} takes the file only under the same name. */
  readonly model: string;
  /** Tokens of the entries, to be stored with them; default none. */
  readonly tokens?: ArrayLike<number> | undefined;
  /** Bytes of the caller's own, to be stored with them. */
  readonly attachment?: Uint8Array | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Writes a cache to a file or a sink: a header, then page after page with a checksum each, as the bytes they are. A path is written beside, flushed to disk
 * and renamed, so that it is never half a file. The cache may go on meanwhile; it then copies the page it writes into, as after a fork.
 *
 * @throws OptionError in the middle of a step, or for entries out of order, KvFormatError beyond the limits of the format, SinkWriteError, AbortError
 */
export async function saveKv(target: string | ByteSink, cache: KvCache | StreamCache, options: SaveKvOptions): Promise<void> {
  const { model, tokens = [], attachment = new Uint8Array(0), signal } = options;
  throwIfAborted(signal);
  const header = checkHeader(
    { ...describe(cache), model, tokens: Array.from(tokens), attachmentBytes: attachment.length },
    'saveKv',
  );
  const snapshot = cache.fork();
  try {
    await writeTo(target, pieces(snapshot, header, attachment), signal);
  } finally {
    snapshot.dispose();
  }
}

function describe(cache: KvCache | StreamCache): Omit<KvHeader, 'model' | 'tokens' | 'attachmentBytes'> {
  const { dtype, pageSize } = cache.pool;
  const common = { dtype, pageSize, positionsEnd: cache.positionsEnd };
  if (cache instanceof KvCache) {
    const layers = cache.pool.layers.map(({ kHeads, kDim, vDim }) => ({ heads: kHeads, kDim, vDim }));
    const lengths = layers.map((_, layer) => cache.length(layer));
    if (lengths.some((length) => length !== cache.positionsEnd)) throw unfinished();
    return { ...common, kind: 'dense', layers, floor: 0, lengths, numbers: [] };
  }
  const [{ kDim, vDim }] = cache.pool.layers;
  const { kvHeads, positionsEnd: end } = cache;
  // Entries that were moved may leave the floor behind them.
  const floor = Math.min(cache.floor, end);
  const layers = Array.from({ length: cache.layers }, () => ({ heads: kvHeads, kDim, vDim }));
  const lengths = layers.flatMap((_, layer) =>
    Array.from({ length: kvHeads }, (_head, head) => {
      const positions = cache.positions(layer, head);
      expectOrder(positions, layer, head);
      if (positions.length < end - floor || !positionsFit(positions, { end, floor })) throw unfinished();
      return positions.length;
    }),
  );
  return { ...common, kind: 'streams', layers, floor, lengths, numbers: entryNumbers.filter((name) => has(cache, name)) };
}

/** The format has no place for entries out of order. */
function expectOrder(positions: Int32Array, layer: number, head: number): void {
  if (positions.every((position, entry) => entry === 0 || position > positions[entry - 1])) return;
  throw new OptionError(
    `saveKv: head ${head} of layer ${layer} has entries that were overwritten or moved out of order, which files do not hold`,
  );
}

/** Whether any entry has such a number. */
function has(cache: StreamCache, name: EntryNumber): boolean {
  for (let layer = 0; layer < cache.layers; layer++)
    for (let head = 0; head < cache.kvHeads; head++) if (cache[name](layer, head).some((number) => number !== 0)) return true;
  return false;
}

function unfinished(): OptionError {
  return new OptionError('saveKv: the cache is in the middle of a step, some layers have more entries than others');
}

async function* pieces(cache: KvCache | StreamCache, header: KvHeader, attachment: Uint8Array): AsyncGenerator<Uint8Array> {
  const { bytes, checksum } = encodeFrame(header);
  yield bytes;
  yield* withChecksum(checksum, attachmentPlace, [attachment]);
  for (const record of kvRecords(header))
    yield* withChecksum(checksum, record.index, await pageParts(cache, record, header.numbers));
}

async function pageParts(
  cache: KvCache | StreamCache,
  { layer, head, page, entries }: KvRecord,
  names: readonly EntryNumber[],
): Promise<Uint8Array[]> {
  const { keys, values, pageSize } = cache.pool;
  const rows = async (pages: Tensor, id: number): Promise<Uint8Array> => {
    const [count, heads] = pages.shape;
    const pageBytes = pages.bytes / count;
    const bytes = await cache.backend.read(pages.storage, pages.byteOffset + id * pageBytes, pageBytes);
    return packRows(bytes, heads, pageSize, entries);
  };
  if (cache instanceof KvCache) {
    const id = cache.pages[page];
    return [await rows(keys[layer], id), await rows(values[layer], id)];
  }
  const id = cache.pages(layer, head ?? 0)[page];
  const own = <T extends Int32Array | Float32Array>(all: T): T => all.subarray(page * pageSize, page * pageSize + entries) as T;
  const positions = encodeValues(own(cache.positions(layer, head ?? 0)), 'i32');
  const numbers = names.map((name) => encodeValues(own(cache[name](layer, head ?? 0)), 'f32'));
  return [positions, ...numbers, await rows(keys[0], id), await rows(values[0], id)];
}
