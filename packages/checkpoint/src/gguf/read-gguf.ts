import { UnsupportedTensorType } from '../errors.js';
import type { ByteSource } from '../sources/byte-source.js';
import { GgufFile, type GgufTensorInfo } from './gguf-file.js';
import { HeaderCursor } from './header-cursor.js';
import { readGgufValue } from './read-value.js';
import { ggufByteLength, ggufTypeOf, ggufTypes, type GgufType } from './types.js';
import type { GgufValue } from './value.js';

/** How {@link readGguf} reads. */
export interface ReadGgufOptions {
  signal?: AbortSignal;
  /** Headers longer than this are refused. The longest in use are about 20 MiB, nearly all of it vocabulary. */
  maxHeaderBytes?: number;
}

/** "GGUF" as a little-endian u32. */
const magic = 0x46554747;
const maxKeyBytes = 65535;
/** The format says 64; files of image models with longer names exist. */
const maxTensorNameBytes = 1024;
const maxDimensions = 4;
/** Many times what any model has. */
const maxTensors = 2 ** 18;
const maxPairs = 2 ** 16;

/**
 * Opens a GGUF file of version 2 or 3, little-endian. Reads the header only, in growing pieces; validates all of it, and every
 * tensor's place, before returning.
 *
 * Header: magic, version, tensor count, metadata count, then key-value pairs, then tensor infos, then padding to
 * `general.alignment` (32 unless stated), then the data, into which tensor offsets point.
 */
export async function readGguf(source: ByteSource, options: ReadGgufOptions = {}): Promise<GgufFile> {
  const { signal, maxHeaderBytes = 256 * 2 ** 20 } = options;
  const cursor = new HeaderCursor(source, maxHeaderBytes);
  const { version, tensorCount, metadataCount } = await cursor.step(() => readPreamble(cursor), signal);

  const metadata = new Map<string, GgufValue>();
  for (let index = 0; index < metadataCount; index++) {
    const [key, value] = await cursor.step(() => readPair(cursor, index, metadata), signal);
    metadata.set(key, value);
  }
  const alignment = alignmentOf(cursor, metadata);

  const stated = new Map<string, StatedTensor>();
  for (let index = 0; index < tensorCount; index++) {
    const tensor = await cursor.step(() => readTensorInfo(cursor, index, stated), signal);
    stated.set(tensor.name, tensor);
  }
  const dataOffset = Math.ceil(cursor.position / alignment) * alignment;
  const tensors = [...stated.values()].map((tensor) => place(cursor, tensor, dataOffset, alignment));
  refuseMissing(cursor, tensors);
  refuseOverlaps(cursor, tensors);
  return new GgufFile({ source, version, alignment, dataOffset, metadata, tensors });
}

interface StatedTensor {
  readonly name: string;
  readonly type: GgufType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** From the start of the data. */
  readonly offset: number;
}

function readPreamble(cursor: HeaderCursor): { version: number; tensorCount: number; metadataCount: number } {
  cursor.context = 'header';
  const found = cursor.u32();
  if (found !== magic)
    throw cursor.fail(`not a GGUF file: it begins with 0x${found.toString(16).padStart(8, '0')}, not with "GGUF"`);
  const version = cursor.u32();
  if (version !== 0 && version % 2 ** 16 === 0)
    throw cursor.fail('the file is big-endian; convert it to little-endian (gguf-py has gguf_convert_endian.py)');
  if (version !== 2 && version !== 3) throw cursor.fail(`version ${version} is not supported; 2 and 3 are`);
  // A tensor: name length, one byte of name, dimension count, one dimension, type, offset. A pair: key length, a byte, type, a byte.
  const tensorCount = cursor.count('tensor count', 8 + 1 + 4 + 4 + 8);
  const metadataCount = cursor.count('metadata count', 8 + 1 + 4 + 1);
  if (tensorCount > maxTensors) throw cursor.fail(`tensor count is ${tensorCount}; at most ${maxTensors} are read`);
  if (metadataCount > maxPairs) throw cursor.fail(`metadata count is ${metadataCount}; at most ${maxPairs} are read`);
  return { version, tensorCount, metadataCount };
}

function readPair(cursor: HeaderCursor, index: number, before: ReadonlyMap<string, GgufValue>): [string, GgufValue] {
  cursor.context = `metadata key ${index}`;
  const key = cursor.string(maxKeyBytes);
  if (key === '') throw cursor.fail('the key is empty');
  if (before.has(key)) throw cursor.fail(`the key "${key}" occurs twice`);
  cursor.context = `metadata "${key}"`;
  return [key, readGgufValue(cursor)];
}

function alignmentOf(cursor: HeaderCursor, metadata: ReadonlyMap<string, GgufValue>): number {
  const entry = metadata.get('general.alignment');
  if (entry === undefined) return 32;
  cursor.context = 'metadata "general.alignment"';
  if (entry.type !== 'u32') throw cursor.fail(`the alignment should be a u32, the file has ${entry.type}`);
  const alignment = entry.value;
  if (alignment === 0 || (alignment & (alignment - 1)) !== 0)
    throw cursor.fail(`the alignment must be a power of two, got ${alignment}`);
  return alignment;
}

function readTensorInfo(cursor: HeaderCursor, index: number, before: ReadonlyMap<string, StatedTensor>): StatedTensor {
  cursor.context = `tensor ${index}`;
  const name = cursor.string(maxTensorNameBytes);
  if (name === '') throw cursor.fail('the name is empty');
  if (before.has(name)) throw cursor.fail(`the name "${name}" occurs twice`);
  cursor.context = `tensor "${name}"`;
  const dimensions = cursor.u32();
  if (dimensions > maxDimensions) throw cursor.fail(`${dimensions} dimensions; at most ${maxDimensions} are allowed`);
  const sizes = Array.from({ length: dimensions }, (_, axis) => {
    const size = cursor.size(`dimension ${axis}`);
    if (size === 0) throw cursor.fail(`dimension ${axis} is 0`);
    return size;
  });
  // The file lists the innermost dimension first.
  const shape = sizes.reverse();
  const id = cursor.u32();
  const type = ggufTypeOf(id);
  if (type === undefined) throw new UnsupportedTensorType(cursor.source.name, name, id, Object.keys(ggufTypes));
  const offset = cursor.size('offset');
  const { blockSize } = ggufTypes[type];
  if ((shape.at(-1) ?? 1) % blockSize !== 0)
    throw cursor.fail(`rows of ${shape.at(-1) ?? 1} elements are not whole blocks of ${blockSize} (${type})`);
  const elements = shape.reduce((product, size) => product * size, 1);
  const byteLength = ggufByteLength(type, shape);
  if (byteLength === undefined || !Number.isSafeInteger(elements))
    throw cursor.fail(`shape [${shape.join(', ')}] of ${type} has more elements or bytes than any file holds`);
  return { name, type, shape, byteLength, offset };
}

function place(cursor: HeaderCursor, tensor: StatedTensor, dataOffset: number, alignment: number): GgufTensorInfo {
  const { source } = cursor;
  cursor.context = `tensor "${tensor.name}"`;
  if (tensor.offset % alignment !== 0)
    throw cursor.fail(`offset ${tensor.offset} is not a multiple of the alignment ${alignment}`);
  const offset = dataOffset + tensor.offset;
  if (!Number.isSafeInteger(offset + tensor.byteLength))
    throw cursor.fail(`its ${tensor.byteLength} bytes at ${offset} are more than any file holds`);
  return { ...tensor, offset, source };
}

/** A file that was cut off: says from where on, and how much there should be. */
function refuseMissing(cursor: HeaderCursor, tensors: readonly GgufTensorInfo[]): void {
  const { size } = cursor.source;
  const missing = tensors.filter(({ offset, byteLength }) => offset + byteLength > size).sort((a, b) => a.offset - b.offset);
  if (missing.length === 0) return;
  const [{ name, byteLength, offset }] = missing;
  const needed = missing.reduce((most, tensor) => Math.max(most, tensor.offset + tensor.byteLength), 0);
  cursor.context = `tensor "${name}"`;
  throw cursor.fail(
    `its ${byteLength} bytes at ${offset} go past the end of the file, which has ${size} of the ${needed} bytes that its header describes ` +
      `(${missing.length} of ${tensors.length} tensors are cut off); is the file complete? If it was downloaded or copied, do that again`,
  );
}

function refuseOverlaps(cursor: HeaderCursor, tensors: readonly GgufTensorInfo[]): void {
  const inOrder = tensors.toSorted((a, b) => a.offset - b.offset);
  for (let index = 1; index < inOrder.length; index++) {
    const [before, tensor] = [inOrder[index - 1], inOrder[index]];
    cursor.context = `tensor "${tensor.name}"`;
    if (tensor.offset < before.offset + before.byteLength)
      throw cursor.fail(`its bytes at ${tensor.offset} overlap those of "${before.name}"`);
  }
}
