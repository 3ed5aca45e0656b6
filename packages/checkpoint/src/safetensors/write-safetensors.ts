import { OptionError } from '@filigree/core-tensor';
import type { ByteSink } from '../sinks/byte-sink.js';
import { writeTo } from '../sinks/write-to.js';
import { tensorPieces, type TensorData } from '../tensor-data.js';
import { isSafetensorsDType, safetensorsByteLength, safetensorsDTypes, type SafetensorsDType } from './dtypes.js';
import { maxSafetensorsHeaderBytes } from './read-safetensors.js';

/** A tensor to write: little-endian bytes, row-major. */
export interface SafetensorsTensorEntry {
  readonly name: string;
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  readonly data: TensorData;
}

/**
 * Writes a safetensors file, tensor by tensor in pieces of at most 64 MiB. A path is written through a temporary file beside it,
 * flushed and renamed. Tensors are stored widest element type first, then by name, so that every one is aligned to its elements.
 */
export async function writeSafetensors(
  target: string | ByteSink,
  tensors: readonly SafetensorsTensorEntry[],
  metadata: Readonly<Record<string, string>> | ReadonlyMap<string, string> = {},
  { signal }: { signal?: AbortSignal } = {},
): Promise<void> {
  const sized = tensors
    .map((tensor) => ({ ...tensor, byteLength: byteLengthOf(tensor) }))
    .sort((a, b) => safetensorsDTypes[b.dtype] - safetensorsDTypes[a.dtype] || (a.name < b.name ? -1 : 1));
  const header = headerBytes(sized, metadata instanceof Map ? metadata : new Map(Object.entries(metadata)));
  async function* pieces() {
    yield header;
    for (const { name, data, byteLength } of sized) yield* tensorPieces('writeSafetensors', name, data, byteLength);
  }
  await writeTo(target, pieces(), signal);
}

function byteLengthOf({ name, dtype, shape }: SafetensorsTensorEntry): number {
  if (!isSafetensorsDType(dtype))
    throw new OptionError(
      `writeSafetensors: tensor "${name}": dtype ${JSON.stringify(dtype)} is none of ${Object.keys(safetensorsDTypes).join(', ')}`,
    );
  if (shape.some((size) => !Number.isSafeInteger(size) || size < 0))
    throw new OptionError(`writeSafetensors: tensor "${name}": shape [${shape.join(', ')}] must be non-negative integers`);
  const byteLength = safetensorsByteLength(dtype, shape);
  if (byteLength === undefined)
    throw new OptionError(
      `writeSafetensors: tensor "${name}": ${dtype} of shape [${shape.join(', ')}] is no whole number of bytes`,
    );
  return byteLength;
}

/** Length and JSON, padded with spaces so that the data begins at a multiple of 8. */
function headerBytes(
  tensors: readonly (SafetensorsTensorEntry & { byteLength: number })[],
  metadata: ReadonlyMap<string, string>,
): Uint8Array {
  const entries = new Map<string, unknown>();
  if (metadata.size > 0) entries.set('__metadata__', metadata);
  let offset = 0;
  for (const { name, dtype, shape, byteLength } of tensors) {
    if (entries.has(name) || name === '__metadata__')
      throw new OptionError(`writeSafetensors: the tensor name "${name}" is given twice or reserved`);
    entries.set(name, { dtype, shape, data_offsets: [offset, offset + byteLength] });
    offset += byteLength;
  }
  const json = new TextEncoder().encode(stringifyMap(entries));
  const length = Math.ceil(json.byteLength / 8) * 8;
  if (length > maxSafetensorsHeaderBytes)
    throw new OptionError(`writeSafetensors: the header takes ${length} bytes; the format allows ${maxSafetensorsHeaderBytes}`);
  const bytes = new Uint8Array(8 + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, 8);
  return bytes;
}

/** JSON of a Map as an object. JSON.stringify over a plain object would lose a key named `__proto__` and reorder numeric keys. */
function stringifyMap(map: ReadonlyMap<string, unknown>): string {
  const members = [...map].map(([key, value]) => {
    const json = value instanceof Map ? stringifyMap(value) : JSON.stringify(value);
    return `${JSON.stringify(key)}:${json}`;
  });
  return `{${members.join(',')}}`;
}
