import { throwIfAborted } from '@filigree/core-tensor';
import { SafetensorsFormatError, UnsupportedTensorType } from '../errors.js';
import { maxReadBytes, type ByteSource } from '../sources/byte-source.js';
import { isSafetensorsDType, safetensorsByteLength, safetensorsDTypes } from './dtypes.js';
import { JsonSyntaxError, parseJson, type JsonObject, type JsonValue } from './json.js';
import { SafetensorsFile, type SafetensorsTensorInfo } from './safetensors-file.js';

/** The format's own limit on the length of the header. */
export const maxSafetensorsHeaderBytes = 100_000_000;

/**
 * Opens one safetensors file: a u64 length, a JSON header of that length, the data. Reads the header only and validates all of
 * it: the tensors must fill the data without holes or overlaps, each with exactly the bytes of its shape and type.
 */
export async function readSafetensors(source: ByteSource, { signal }: { signal?: AbortSignal } = {}): Promise<SafetensorsFile> {
  const fail = (detail: string) => new SafetensorsFormatError(`${source.name}: ${detail}`);
  const headerBytes = await headerLength(source, signal);
  const header = parseHeader(await readHeader(source, headerBytes, signal), source.name);
  const dataOffset = 8 + headerBytes;

  let metadata: ReadonlyMap<string, string> = new Map();
  const tensors: SafetensorsTensorInfo[] = [];
  for (const [name, entry] of header) {
    if (name === '__metadata__') metadata = stringMap(entry, fail);
    else tensors.push(tensorOf(name, entry, dataOffset, source, fail));
  }
  // Empty tensors take no bytes: they come before the one that begins where they lie.
  tensors.sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength);
  let end = dataOffset;
  for (const { name, offset, byteLength } of tensors) {
    if (offset !== end)
      throw fail(
        `tensor "${name}" begins at byte ${offset - dataOffset} of the data, but the one before ends at ${end - dataOffset}: ` +
          (offset < end ? 'they overlap' : 'there is a hole'),
      );
    end = offset + byteLength;
  }
  if (end !== source.size)
    throw fail(
      `the header describes ${end - dataOffset} bytes of data, the file has ${source.size - dataOffset}; ` +
        (end > source.size ? 'is the file complete?' : 'what follows belongs to no tensor'),
    );
  return new SafetensorsFile(source.name, [source], tensors, metadata);
}

async function headerLength(source: ByteSource, signal: AbortSignal | undefined): Promise<number> {
  const fail = (detail: string) => new SafetensorsFormatError(`${source.name}: ${detail}`);
  if (source.size < 8) throw fail(`${source.size} bytes are too few for a safetensors file`);
  const prefix = await source.read(0, 8, signal);
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  if (length > maxSafetensorsHeaderBytes)
    throw fail(`the header's length is ${length} bytes, more than ${maxSafetensorsHeaderBytes}; is this a safetensors file?`);
  if (Number(length) > source.size - 8) throw fail(`a header of ${length} bytes does not fit into ${source.size} bytes`);
  return Number(length);
}

async function readHeader(source: ByteSource, length: number, signal: AbortSignal | undefined): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += maxReadBytes) {
    throwIfAborted(signal);
    bytes.set(await source.read(8 + at, Math.min(maxReadBytes, length - at), signal), at);
  }
  return bytes;
}

function parseHeader(bytes: Uint8Array, file: string): JsonObject {
  // The format demands it: a header never begins with a space or a byte-order mark.
  if (bytes.at(0) !== 0x7b) throw new SafetensorsFormatError(`${file}: the header does not begin with "{"`);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new SafetensorsFormatError(`${file}: the header is not valid UTF-8`);
  }
  return parseObject(text, file);
}

/** Parses JSON text that must be an object. */
export function parseObject(text: string, file: string): JsonObject {
  let value: JsonValue;
  try {
    value = parseJson(text);
  } catch (error) {
    if (!(error instanceof JsonSyntaxError)) throw error;
    throw new SafetensorsFormatError(`${file}: the header is not valid JSON: ${error.message}`);
  }
  if (!(value instanceof Map)) throw new SafetensorsFormatError(`${file}: the header is not a JSON object`);
  return value;
}

/** An object all of whose values are strings. */
function stringMap(value: JsonValue, fail: (detail: string) => Error): ReadonlyMap<string, string> {
  if (!(value instanceof Map)) throw fail('__metadata__ is not an object');
  const strings = new Map<string, string>();
  for (const [key, text] of value) {
    if (typeof text !== 'string') throw fail(`__metadata__ "${key}" is not a string`);
    strings.set(key, text);
  }
  return strings;
}

function tensorOf(
  name: string,
  entry: JsonValue,
  dataOffset: number,
  source: ByteSource,
  fail: (detail: string) => Error,
): SafetensorsTensorInfo {
  if (!(entry instanceof Map)) throw fail(`tensor "${name}" is not described by an object`);
  const dtype = entry.get('dtype');
  if (typeof dtype !== 'string') throw fail(`tensor "${name}": dtype is not a string`);
  if (!isSafetensorsDType(dtype)) throw new UnsupportedTensorType(source.name, name, dtype, Object.keys(safetensorsDTypes));
  const shape = sizes(entry.get('shape'));
  if (!shape) throw fail(`tensor "${name}": shape is not a list of non-negative integers`);
  const range = sizes(entry.get('data_offsets'));
  if (range?.length !== 2 || range[0] > range[1]) throw fail(`tensor "${name}": data_offsets is not [begin, end] in order`);
  const [begin, end] = range;
  if (end > source.size - dataOffset)
    throw fail(
      `tensor "${name}" ends at byte ${end} of the data, which has ${source.size - dataOffset}; is the file complete?`,
    );
  const byteLength = safetensorsByteLength(dtype, shape);
  if (byteLength !== end - begin)
    throw fail(
      `tensor "${name}": ${dtype} of shape [${shape.join(', ')}] takes ${byteLength ?? 'no whole number of'} bytes, ` +
        `data_offsets give it ${end - begin}`,
    );
  return { name, dtype, shape, offset: dataOffset + begin, byteLength, source };
}

function sizes(value: JsonValue | undefined): number[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const isSize = (item: unknown): item is number => Number.isSafeInteger(item) && Number(item) >= 0;
  return value.every(isSize) ? value : undefined;
}
