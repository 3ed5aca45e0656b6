import type { ByteSource } from '@filigree/checkpoint';
import { KvFormatError } from '../errors.js';
import { crc32c } from './crc32c.js';
import { checksumBytes } from './kv-records.js';
import { checkHeader, kvFileLimits, type KvHeader } from './kv-header.js';

/** `FILIGKV`, and a byte that text does not have. */
const magic = Uint8Array.of(0x46, 0x49, 0x4c, 0x49, 0x47, 0x4b, 0x56, 0x00);
const version = 1;
/** Stands for the index of a page in the checksum of the attachment. */
export const attachmentPlace = 2 ** 32 - 1;
/** Magic, version, bytes of the header, its checksum. */
const frameBytes = magic.length + 12;

/** A header, and where what follows begins. */
export interface KvFrame {
  readonly header: KvHeader;
  readonly checksum: number;
  readonly attachmentAt: number;
  readonly pagesAt: number;
}

/** The beginning of a file: magic, version, length and checksum of the header, the header as JSON. All numbers are little-endian. */
export function encodeFrame(header: KvHeader): { readonly bytes: Uint8Array; readonly checksum: number } {
  const text = new TextEncoder().encode(JSON.stringify(header));
  if (text.length > kvFileLimits.headerBytes)
    throw new KvFormatError(`saveKv: the header has ${text.length} bytes, it can have ${kvFileLimits.headerBytes}`);
  const checksum = crc32c(text);
  const bytes = new Uint8Array(frameBytes + text.length);
  bytes.set(magic);
  const view = new DataView(bytes.buffer);
  for (const [index, value] of [version, text.length, checksum].entries())
    view.setUint32(magic.length + 4 * index, value, true);
  bytes.set(text, frameBytes);
  return { bytes, checksum };
}

/** @throws KvFormatError, SourceReadError, AbortError */
export async function readFrame(source: ByteSource, signal?: AbortSignal): Promise<KvFrame> {
  const { name, size } = source;
  if (size < frameBytes) throw new KvFormatError(`${name}: ${size} bytes are too few for a saved cache`);
  const frame = await source.read(0, frameBytes, signal);
  if (magic.some((byte, index) => frame[index] !== byte)) throw new KvFormatError(`${name}: not a saved cache`);
  const view = new DataView(frame.buffer, frame.byteOffset);
  const [found, length, checksum] = [0, 4, 8].map((at) => view.getUint32(magic.length + at, true));
  if (found !== version) throw new KvFormatError(`${name}: a saved cache of version ${found}, only ${version} is read`);
  if (length > kvFileLimits.headerBytes || frameBytes + length > size)
    throw new KvFormatError(`${name}: a header of ${length} bytes does not fit into the file`);
  const text = await source.read(frameBytes, length, signal);
  if (crc32c(text) !== checksum) throw new KvFormatError(`${name}: the checksum of the header is wrong`);
  const header = checkHeader(parse(text, name), name);
  const attachmentAt = frameBytes + length;
  const pagesAt = attachmentAt + header.attachmentBytes + checksumBytes;
  if (pagesAt > size) throw new KvFormatError(`${name}: the file ends before its first page`);
  return { header, checksum, attachmentAt, pagesAt };
}

/** The caller's own bytes; undefined when they are damaged. */
export async function readAttachment(
  source: ByteSource,
  frame: KvFrame,
  signal?: AbortSignal,
): Promise<Uint8Array | undefined> {
  const { header, checksum, attachmentAt, pagesAt } = frame;
  const bytes = await source.read(attachmentAt, pagesAt - attachmentAt, signal);
  const attachment = bytes.subarray(0, header.attachmentBytes);
  return pageChecksum(checksum, attachmentPlace, attachment) === readChecksum(bytes) ? attachment : undefined;
}

/** Bytes, and behind them their checksum. */
export function* withChecksum(headerChecksum: number, index: number, parts: readonly Uint8Array[]): Generator<Uint8Array> {
  yield* parts;
  const end = new Uint8Array(checksumBytes);
  new DataView(end.buffer).setUint32(0, pageChecksum(headerChecksum, index, ...parts), true);
  yield end;
}

/** The checksum at the end of some bytes. */
export function readChecksum(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset + bytes.length - checksumBytes).getUint32(0, true);
}

/** Checksum of a page: bound to its place in the file and to the file's header, so that pages cannot stand in for each other. */
export function pageChecksum(headerChecksum: number, index: number, ...parts: readonly Uint8Array[]): number {
  const place = new Uint8Array(8);
  const view = new DataView(place.buffer);
  view.setUint32(0, headerChecksum, true);
  view.setUint32(4, index, true);
  return parts.reduce((crc, part) => crc32c(part, crc), crc32c(place));
}

function parse(text: Uint8Array, name: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text));
  } catch (cause) {
    throw new KvFormatError(`${name}: the header is not JSON`, { cause });
  }
}
