import { byteSize } from '@filigree/core-tensor';
import type { RawKvType } from '../codec.js';
import { KvFormatError } from '../errors.js';
import { entryNumbers, type EntryNumber } from '../streams/page-numbers.js';

/** Keys and values of one layer of a file: `heads` of each. */
export interface KvFileLayer {
  readonly heads: number;
  readonly kDim: number;
  readonly vDim: number;
}

/** What a saved cache says of itself. */
export interface KvHeader {
  /** `dense`: all entries, the same for every head. `streams`: every head of every layer keeps entries of its own. */
  readonly kind: 'dense' | 'streams';
  /** What the entries were computed by, as the caller names it: model, weights, adapter. */
  readonly model: string;
  /** The tokens, where the caller gave them. */
  readonly tokens: readonly number[];
  readonly dtype: RawKvType;
  /** Entries of a page. */
  readonly pageSize: number;
  readonly layers: readonly KvFileLayer[];
  /** Position of the next token. */
  readonly positionsEnd: number;
  /** Positions below which entries were evicted; 0: none were. */
  readonly floor: number;
  /** Bytes of the caller's own between header and pages. */
  readonly attachmentBytes: number;
  /** Entries per stream: of a layer when dense, of layer and head otherwise. */
  readonly lengths: readonly number[];
  /** What the entries of streams have beside keys and values, a number each. */
  readonly numbers: readonly EntryNumber[];
}

/** Largest values of a file; beyond them it is taken for broken or hostile. */
export const kvFileLimits = {
  headerBytes: 16 * 2 ** 20,
  layers: 4096,
  heads: 4096,
  dim: 65_536,
  pageSize: 65_536,
  positions: 2 ** 31 - 1,
  pageBytes: 64 * 2 ** 20,
  attachmentBytes: 64 * 2 ** 20,
} as const;

/** Checks what a file or a cache says. @throws KvFormatError naming the field */
export function checkHeader(value: unknown, file: string): KvHeader {
  const header = fields(value, 'the header', file);
  const kind = oneOf(header, 'kind', ['dense', 'streams'] as const, file);
  const dtype = oneOf(header, 'dtype', ['f32', 'f16'] as const, file);
  const pageSize = integer(header['pageSize'], 'pageSize', 1, kvFileLimits.pageSize, file);
  const positionsEnd = integer(header['positionsEnd'], 'positionsEnd', 0, kvFileLimits.positions, file);
  const floor = integer(header['floor'], 'floor', 0, kind === 'dense' ? 0 : positionsEnd, file);
  const layers = list(header, 'layers', 1, kvFileLimits.layers, file).map((layer, index) => {
    const name = `layers[${index}]`;
    const { heads, kDim, vDim } = fields(layer, name, file);
    return {
      heads: integer(heads, `${name}.heads`, 1, kvFileLimits.heads, file),
      kDim: integer(kDim, `${name}.kDim`, 1, kvFileLimits.dim, file),
      vDim: integer(vDim, `${name}.vDim`, 1, kvFileLimits.dim, file),
    };
  });
  if (kind === 'streams' && layers.some((layer) => JSON.stringify(layer) !== JSON.stringify(layers[0])))
    throw new KvFormatError(`${file}: layers of streams differ, they must be alike`);
  const streams = kind === 'dense' ? layers.length : layers.length * layers[0].heads;
  // What was appended since entries were evicted is in every stream.
  const least = positionsEnd - floor;
  const lengths = list(header, 'lengths', streams, streams, file).map((length, index) =>
    integer(length, `lengths[${index}]`, least, positionsEnd, file),
  );
  for (const { heads, kDim, vDim } of layers) {
    const bytes = pageSize * (4 + 4 * entryNumbers.length + heads * (kDim + vDim) * byteSize(dtype));
    if (bytes > kvFileLimits.pageBytes)
      throw new KvFormatError(`${file}: a page has ${bytes} bytes, it can have ${kvFileLimits.pageBytes}`);
  }
  const { model } = header;
  if (typeof model !== 'string') throw new KvFormatError(`${file}: model is not a string`);
  const tokens = list(header, 'tokens', 0, kvFileLimits.positions, file).map((token, index) =>
    integer(token, `tokens[${index}]`, 0, kvFileLimits.positions, file),
  );
  const attachmentBytes = integer(header['attachmentBytes'], 'attachmentBytes', 0, kvFileLimits.attachmentBytes, file);
  const numbers = numbersOf(header, kind, file);
  return { kind, attachmentBytes, model, tokens, dtype, pageSize, layers, positionsEnd, floor, lengths, numbers };
}

/** In their order, each once; there are none in files from before there were some. */
function numbersOf(header: Fields, kind: KvHeader['kind'], file: string): EntryNumber[] {
  if (header['numbers'] === undefined) return [];
  const found = list(header, 'numbers', 0, kind === 'dense' ? 0 : entryNumbers.length, file);
  const numbers = entryNumbers.filter((name) => found.includes(name));
  if (numbers.length !== found.length)
    throw new KvFormatError(`${file}: numbers must be of ${entryNumbers.join(', ')}, each once`);
  return numbers;
}

type Fields = Readonly<Record<string, unknown>>;

function fields(value: unknown, name: string, file: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new KvFormatError(`${file}: ${name} is not an object`);
  return value as Fields;
}

function oneOf<T extends string>(header: Fields, name: string, choices: readonly T[], file: string): T {
  const found = choices.find((choice) => choice === header[name]);
  if (found === undefined) throw new KvFormatError(`${file}: ${name} is none of ${choices.join(', ')}`);
  return found;
}

function integer(value: unknown, name: string, least: number, most: number, file: string): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < least || value > most)
    throw new KvFormatError(`${file}: ${name} must be an integer from ${least} to ${most}`);
  return value;
}

function list(header: Fields, name: string, least: number, most: number, file: string): readonly unknown[] {
  const value = header[name];
  if (!Array.isArray(value) || value.length < least || value.length > most)
    throw new KvFormatError(`${file}: ${name} must be a list of ${least === most ? most : `${least} to ${most}`}`);
  return value;
}
