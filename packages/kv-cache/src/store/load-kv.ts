import { fileSource, type ByteSource } from '@filigree/checkpoint';
import { OptionError, throwIfAborted, type Backend } from '@filigree/core-tensor';
import type { RawKvType } from '../codec.js';
import { KvFormatError, KvMismatchError, type KvCorruptError } from '../errors.js';
import type { KvCache } from '../kv-cache.js';
import type { KvLayerSpec } from '../page-pool.js';
import type { StreamCache } from '../streams/stream-cache.js';
import { fillCache } from './fill-cache.js';
import { readAttachment, readFrame } from './kv-frame.js';
import type { KvHeader } from './kv-header.js';
import { KvReader } from './kv-reader.js';

export interface LoadKvOptions {
  /** What {@link saveKv} was given. */
  readonly model: string;
  /** Layers and numbers that the cache must have; default whatever the file has. */
  readonly expect?:
    | {
        readonly layers: readonly Omit<KvLayerSpec, 'kStore'>[];
        readonly dtype?: RawKvType | undefined;
        readonly pageSize?: number | undefined;
      }
    | undefined;
  /** Positions to come that there is to be room for; default 0. */
  readonly room?: number | undefined;
  /** Of a damaged file, take what comes before the damage (default false). */
  readonly partial?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A cache from a file; the caller disposes it. */
export interface LoadedKv {
  readonly cache: KvCache | StreamCache;
  /** Tokens of its entries, as far as they were saved. */
  readonly tokens: readonly number[];
  /** What {@link saveKv} was given; undefined when it is damaged, with `partial`. */
  readonly attachment: Uint8Array | undefined;
  /** With `partial`: where the file is damaged; all that lies behind is missing. */
  readonly damage: KvCorruptError | undefined;
}

/** What a saved cache says of itself; its pages are not read. @throws KvFormatError, SourceReadError, AbortError */
export async function readKvHeader(source: string | ByteSource, signal?: AbortSignal): Promise<KvHeader> {
  return withSource(source, async (opened) => (await readFrame(opened, signal)).header);
}

/**
 * Reads what {@link saveKv} wrote: bit for bit what was there. Files may come from anywhere; all sizes are checked against that of the file before
 * anything is allocated.
 *
 * @throws KvFormatError, KvMismatchError, KvCorruptError, SourceReadError, OptionError, AbortError
 */
export async function loadKv(source: string | ByteSource, backend: Backend, options: LoadKvOptions): Promise<LoadedKv> {
  const { room = 0, partial = false, signal } = options;
  throwIfAborted(signal);
  if (!Number.isInteger(room) || room < 0) throw new OptionError(`loadKv: room is ${room}, it must be a non-negative integer`);
  return withSource(source, async (opened) => {
    const frame = await readFrame(opened, signal);
    expectSame(opened.name, frame.header, options);
    const attachment = await readAttachment(opened, frame, signal);
    if (!attachment && !partial) throw new KvFormatError(`${opened.name}: the checksum of the attachment is wrong`);
    const reader = new KvReader(opened, frame, partial);
    const cache = await fillCache(backend, reader, { name: opened.name, room, signal });
    return { cache, tokens: reader.header.tokens, attachment, damage: reader.damage };
  });
}

function expectSame(file: string, header: KvHeader, { model, expect }: LoadKvOptions): void {
  if (header.model !== model)
    throw new KvMismatchError(`${file}: saved by the model ${short(header.model)}, not by ${short(model)}`);
  if (!expect) return;
  const { dtype = header.dtype, pageSize = header.pageSize, layers } = expect;
  if (header.pageSize !== pageSize)
    throw new KvMismatchError(`${file}: pages have ${header.pageSize} entries, ${pageSize} were expected`);
  if (header.dtype !== dtype) throw new KvMismatchError(`${file}: entries are ${header.dtype}, ${dtype} was expected`);
  if (header.layers.length !== layers.length)
    throw new KvMismatchError(`${file}: has ${header.layers.length} layers, ${layers.length} were expected`);
  for (const [index, { heads, kDim, vDim }] of header.layers.entries()) {
    const wanted = layers[index];
    if (heads === wanted.kHeads && heads === wanted.vHeads && kDim === wanted.kDim && vDim === wanted.vDim) continue;
    throw new KvMismatchError(
      `${file}: layer ${index} has ${heads} heads of ${kDim} and ${vDim} channels, ${wanted.kHeads} of ${wanted.kDim} and ${wanted.vDim} were expected`,
    );
  }
}

/** A name as messages show it: files are not trusted with long or unprintable ones. */
function short(name: string): string {
  return JSON.stringify(name.length > 100 ? `${name.slice(0, 100)}…` : name);
}

async function withSource<T>(source: string | ByteSource, use: (opened: ByteSource) => Promise<T>): Promise<T> {
  if (typeof source !== 'string') return use(source);
  const opened = await fileSource(source);
  try {
    return await use(opened);
  } finally {
    await opened.close?.();
  }
}
