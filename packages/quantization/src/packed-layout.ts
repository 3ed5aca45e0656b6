import { f16ToNumber } from '@filigree/core-tensor';
import { decodeRow } from './gguf/decode-row.js';
import { scaleAndMinimum } from './gguf/scales.js';
import { ggufLayoutById } from './gguf/types.js';

/** Rows per execution tile: the lanes of the native kernels. */
export const tileRows = 16;

/** How a type lies in a tile: the width of its codes, what is added to a code to get its level, and how levels are scaled. */
interface TileFormat {
  readonly bits: 4 | 5 | 6 | 8;
  readonly bias: number;
  /**
   * `half`: f16 per 32 inputs. `half-pair`: f16 scale and f16 offset per 32. `super-pair`: six-bit scale and minimum per 32, times two f16
   * per 256. `super-signed`: signed scale per 16, times an f16 per 256.
   */
  readonly scales: 'half' | 'half-pair' | 'super-pair' | 'super-signed';
}

const formats: ReadonlyMap<string, TileFormat> = /* @__PURE__ */ new Map<string, TileFormat>([
  ['Q4_0', { bits: 4, bias: -8, scales: 'half' }],
  ['Q4_1', { bits: 4, bias: 0, scales: 'half-pair' }],
  ['Q5_0', { bits: 5, bias: -16, scales: 'half' }],
  ['Q5_1', { bits: 5, bias: 0, scales: 'half-pair' }],
  ['Q8_0', { bits: 8, bias: -128, scales: 'half' }],
  ['Q4_K', { bits: 4, bias: 0, scales: 'super-pair' }],
  ['Q5_K', { bits: 5, bias: 0, scales: 'super-pair' }],
  ['Q6_K', { bits: 6, bias: -32, scales: 'super-signed' }],
]);

const superBytes: Readonly<Record<TileFormat['scales'], number>> = {
  half: 0,
  'half-pair': 0,
  'super-pair': 64,
  'super-signed': 32,
};

/** Bytes of 16 rows × 32 inputs, and of the f16 factors of 16 rows × 256 inputs. */
function stepBytes({ bits, scales }: TileFormat): { codes: number; scales: number; supers: number } {
  return { codes: 64 * bits, scales: scales === 'half-pair' ? 64 : 32, supers: superBytes[scales] };
}

/** Byte offsets of the parts of a tile, and where it ends. */
function tileParts(format: TileFormat, inFeatures: number): { scales: number; codes: number; end: number } {
  const step = stepBytes(format);
  const scales = upTo64(step.supers * Math.ceil(inFeatures / 256));
  const codes = scales + upTo64(step.scales * (inFeatures / 32));
  return { scales, codes, end: codes + upTo64(step.codes * (inFeatures / 32)) };
}

function upTo64(bytes: number): number {
  return Math.ceil(bytes / 64) * 64;
}

/** Bytes of one tile of 16 rows × `inFeatures` weights; the parts are described in the native kernel (repack.rs). */
export function tileBytes(typeId: number, inFeatures: number): number {
  const { name, bytes } = ggufLayoutById(typeId);
  const format = formats.get(name);
  return format ? tileParts(format, inFeatures).end : upTo64(inFeatures * bytes * tileRows);
}

/** Unsigned code of input e of 32 in the file block that holds `step`, as the kernels store it. */
function fileCode(name: string, bytes: Uint8Array, block: number, step: number, e: number): number {
  const nibble = (at: number): number => (e < 16 ? bytes[at + e] & 15 : bytes[at + e - 16] >> 4);
  const fifth = (at: number): number => ((bytes[at + (e >> 3)] >> (e & 7)) & 1) << 4;
  const sub = step % 8;
  switch (name) {
    case 'Q4_0':
      return nibble(block + 2);
    case 'Q4_1':
      return nibble(block + 4);
    case 'Q5_0':
      return nibble(block + 6) | fifth(block + 2);
    case 'Q5_1':
      return nibble(block + 8) | fifth(block + 4);
    case 'Q8_0':
      return bytes[block + 2 + e] ^ 0x80;
    case 'Q4_K':
      return (bytes[block + 16 + 32 * (sub >> 1) + e] >> (4 * (sub & 1))) & 15;
    case 'Q5_K':
      return ((bytes[block + 48 + 32 * (sub >> 1) + e] >> (4 * (sub & 1))) & 15) | (((bytes[block + 16 + e] >> sub) & 1) << 4);
    default: {
      const [h, j] = [sub >> 2, sub & 3];
      const low = bytes[block + 64 * h + 32 * (j & 1) + e];
      return (j < 2 ? low & 15 : low >> 4) | (((bytes[block + 128 + 32 * h + e] >> (2 * j)) & 3) << 4);
    }
  }
}

/** The definition of the execution layout: packs up to 16 file rows into one zeroed tile. */
export function packTile(typeId: number, inFeatures: number, rows: readonly Uint8Array[], tile: Uint8Array): void {
  const layout = ggufLayoutById(typeId);
  const { name } = layout;
  const format = formats.get(name);
  if (!format) {
    for (const [lane, row] of rows.entries()) {
      for (let k = 0; k < inFeatures; k++) {
        tile.set(row.subarray(k * layout.bytes, (k + 1) * layout.bytes), (k * tileRows + lane) * layout.bytes);
      }
    }
    return;
  }
  const { bits } = format;
  const step = stepBytes(format);
  const parts = tileParts(format, inFeatures);
  for (let lane = 0; lane < tileRows; lane++) {
    const row = lane < rows.length ? rows[lane] : undefined;
    for (let index = 0; index < inFeatures / 32; index++) {
      const block = Math.floor((index * 32) / layout.elements) * layout.bytes;
      if (row) packScales(format, row, block, index, lane, tile, parts.scales);
      const at = parts.codes + index * step.codes;
      for (let e = 0; e < 32; e++) {
        // Padding rows decode to level 0: code 128 of bytes, and scale 0 everywhere else.
        const code = row ? fileCode(name, row, block, index, e) : bits === 8 ? 128 : 0;
        const [vector, byte] = [e >> 2, 4 * lane + (e & 3)];
        if (bits === 8) {
          tile[at + 64 * vector + byte] = code;
          continue;
        }
        tile[at + 64 * (vector & 3) + byte] |= (code & 15) << (4 * (vector >> 2));
        if (bits === 5) tile[at + 256 + 8 * vector + (byte >> 3)] |= (code >> 4) << (byte & 7);
        if (bits === 6) tile[at + 256 + 64 * (vector >> 2) + byte] |= (code >> 4) << (2 * (vector & 3));
      }
    }
  }
}

function packScales(
  format: TileFormat,
  row: Uint8Array,
  block: number,
  index: number,
  lane: number,
  tile: Uint8Array,
  scales: number,
): void {
  const at = scales + index * stepBytes(format).scales;
  const put = (to: number, from: number): void => {
    tile.set(row.subarray(from, from + 2), to + 2 * lane);
  };
  if (format.scales === 'super-pair') {
    const superAt = (index >> 3) * 64;
    put(superAt, block);
    put(superAt + 32, block + 2);
    const { scale, minimum } = scaleAndMinimum(row, block + 4, index & 7);
    tile[at + lane] = scale;
    tile[at + 16 + lane] = minimum;
  } else if (format.scales === 'super-signed') {
    put((index >> 3) * 32, block + 208);
    tile[at + lane] = row[block + 192 + 2 * (index & 7)];
    tile[at + 16 + lane] = row[block + 193 + 2 * (index & 7)];
  } else {
    put(at, block);
    if (format.scales === 'half-pair') put(at + 32, block + 2);
  }
}

/** Decodes one row of a tile into weights; the inverse of {@link packTile} up to the block encoding. */
export function unpackRow(typeId: number, inFeatures: number, tile: Uint8Array, lane: number, out: Float64Array): void {
  const layout = ggufLayoutById(typeId);
  const { name } = layout;
  const half = (at: number): number => f16ToNumber(tile[at + 2 * lane] | (tile[at + 2 * lane + 1] << 8));
  const format = formats.get(name);
  if (!format) {
    const one = new Uint8Array(layout.bytes);
    for (let k = 0; k < inFeatures; k++) {
      one.set(tile.subarray((k * tileRows + lane) * layout.bytes, (k * tileRows + lane + 1) * layout.bytes));
      decodeRow(name, one, 0, 1, out, k);
    }
    return;
  }
  const { bits, bias } = format;
  const step = stepBytes(format);
  const parts = tileParts(format, inFeatures);
  for (let k = 0; k < inFeatures; k++) {
    const [index, e] = [k >> 5, k & 31];
    const at = parts.codes + index * step.codes;
    const [vector, byte] = [e >> 2, 4 * lane + (e & 3)];
    let code = bits === 8 ? tile[at + 64 * vector + byte] : (tile[at + 64 * (vector & 3) + byte] >> (4 * (vector >> 2))) & 15;
    if (bits === 5) code |= ((tile[at + 256 + 8 * vector + (byte >> 3)] >> (byte & 7)) & 1) << 4;
    if (bits === 6) code |= ((tile[at + 256 + 64 * (vector >> 2) + byte] >> (2 * (vector & 3))) & 3) << 4;
    const scaleAt = parts.scales + index * step.scales;
    if (format.scales === 'super-pair') {
      const superAt = (index >> 3) * 64;
      out[k] = half(superAt) * tile[scaleAt + lane] * code - half(superAt + 32) * tile[scaleAt + 16 + lane];
    } else if (format.scales === 'super-signed') {
      const scale = (tile[scaleAt + 16 * (e >> 4) + lane] << 24) >> 24;
      out[k] = half((index >> 3) * 32) * scale * (code + bias);
    } else if (format.scales === 'half-pair') out[k] = half(scaleAt) * code + half(scaleAt + 32);
    else out[k] = half(scaleAt) * (code + bias);
  }
}
