import { OptionError } from '@filigree/core-tensor';
import type { ByteSink } from '../sinks/byte-sink.js';
import { writeTo } from '../sinks/write-to.js';
import { tensorPieces, type TensorData } from '../tensor-data.js';
import { ggufByteLength, ggufTypes, type GgufType } from './types.js';
import type { GgufValue } from './value.js';
import { HeaderBuilder } from './header-builder.js';

/** A tensor to write: raw bytes in the blocks of its type. */
export interface GgufTensorEntry {
  readonly name: string;
  readonly type: GgufType;
  /** Row-major: outermost dimension first. */
  readonly shape: readonly number[];
  readonly data: TensorData;
}

/** What a GGUF file is to hold. */
export interface GgufEntries {
  readonly metadata?: Iterable<readonly [string, GgufValue]>;
  readonly tensors?: readonly GgufTensorEntry[];
}

/** How {@link writeGguf} writes. */
export interface WriteGgufOptions {
  /** 3 when absent. */
  version?: 2 | 3;
  signal?: AbortSignal;
}

/** Writes a GGUF file, little-endian. The alignment is the metadata's `general.alignment`, 32 without one. */
export async function writeGguf(
  target: string | ByteSink,
  entries: GgufEntries,
  options: WriteGgufOptions = {},
): Promise<void> {
  const metadata = new Map<string, GgufValue>();
  for (const [key, value] of entries.metadata ?? []) {
    if (key === '' || metadata.has(key)) throw new OptionError(`writeGguf: metadata key "${key}" is empty or given twice`);
    metadata.set(key, value);
  }
  const stated = metadata.get('general.alignment');
  if (stated && (stated.type !== 'u32' || stated.value === 0 || (stated.value & (stated.value - 1)) !== 0))
    throw new OptionError('writeGguf: general.alignment must be a u32 power of two');
  const alignment = stated?.type === 'u32' ? stated.value : 32;
  const tensors = sized(entries.tensors ?? []);

  const header = new HeaderBuilder();
  header.u32(0x46554747);
  header.u32(options.version ?? 3);
  header.size(tensors.length);
  header.size(metadata.size);
  for (const [key, value] of metadata) {
    header.string(key);
    header.value(key, value);
  }
  let offset = 0;
  for (const { name, type, shape, byteLength } of tensors) {
    header.string(name);
    header.u32(shape.length);
    for (const size of shape.toReversed()) header.size(size);
    header.u32(ggufTypes[type].id);
    header.size(offset);
    offset += padded(byteLength, alignment);
  }
  async function* pieces() {
    const bytes = header.finish();
    yield bytes;
    yield new Uint8Array(padded(bytes.byteLength, alignment) - bytes.byteLength);
    for (const { name, data, byteLength } of tensors) {
      yield* tensorPieces('writeGguf', name, data, byteLength);
      yield new Uint8Array(padded(byteLength, alignment) - byteLength);
    }
  }
  await writeTo(target, pieces(), options.signal);
}

function padded(length: number, alignment: number): number {
  return Math.ceil(length / alignment) * alignment;
}

function sized(tensors: readonly GgufTensorEntry[]): (GgufTensorEntry & { byteLength: number })[] {
  const names = new Set<string>();
  return tensors.map((tensor) => {
    const { name, type, shape } = tensor;
    if (name === '' || names.has(name)) throw new OptionError(`writeGguf: tensor name "${name}" is empty or given twice`);
    names.add(name);
    if (shape.length > 4 || shape.some((size) => !Number.isSafeInteger(size) || size < 1))
      throw new OptionError(`writeGguf: tensor "${name}": shape [${shape.join(', ')}] must be at most 4 positive integers`);
    const byteLength = ggufByteLength(type, shape);
    if (byteLength === undefined)
      throw new OptionError(
        `writeGguf: tensor "${name}": rows of [${shape.join(', ')}] must be whole blocks of ${ggufTypes[type].blockSize} (${type})`,
      );
    return { ...tensor, byteLength };
  });
}
