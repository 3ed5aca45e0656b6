import { f16ToNumber, numberToF16 } from '@filigree/core-tensor';
import { fieldOffsets as field } from './gguf/block-fields.js';
import { ternaryDigit } from './gguf/decode-block.js';
import { decodeRow } from './gguf/decode-row.js';
import { e2m1Doubled, nonLinear } from './gguf/levels.js';
import { e8m0Half, iq4Scale, q3Scale, scaleAndMinimum, unsignedE4m3 } from './gguf/scales.js';
import { weightLayoutById } from './gguf/types.js';
import { groupedCode, groupedFactors } from './grouped/blocks.js';
import { groupedLevel } from './grouped/levels.js';
import { groupedType, groupedTypes, isInteger } from './grouped/types.js';

/** Rows per execution tile: the lanes of the native kernels. */
export const tileRows = 16;

/** How a type lies in a tile: how codes are stored, what a code stands for, and how levels are scaled. */
interface TileFormat {
  readonly bits: 1 | 2 | 3 | 4 | 5 | 6 | 8;
  /** Levels by code; absent: the code itself. */
  readonly levels?: readonly number[];
  /** Added to what a code stands for to get its level. */
  readonly bias: number;
  readonly scales: keyof typeof scaleForms;
  /** Inputs that share a super scale; default 256. */
  readonly superInputs?: number;
}

/** Bytes of 16 rows × 32 inputs, and of the super scales of 16 rows. */
const scaleForms = {
  /** f16 per 32 inputs. */
  half: { step: 32, supers: 0 },
  /** f16 scale and f16 offset per 32. */
  'half-pair': { step: 64, supers: 0 },
  /** f16 per 16. */
  'half-twice': { step: 64, supers: 0 },
  /** f16 per block of more than 32. */
  shared: { step: 0, supers: 32 },
  /** Exponent e per 32: 2^(e − 128). */
  exponent: { step: 16, supers: 0 },
  /** Six-bit scale and minimum per 32, times two f16 per 256. */
  'super-pair': { step: 32, supers: 64 },
  /** Four-bit scale and minimum per 16 in one byte, times two f16 per 256. */
  'super-pair-twice': { step: 32, supers: 64 },
  /** Signed scale per 32, times an f16 per 256. */
  'super-signed': { step: 16, supers: 32 },
  /** Signed scale per 16, times an f16 per 256. */
  'super-signed-twice': { step: 32, supers: 32 },
  /** f32 scale and f32 offset per group. */
  'float-pair': { step: 0, supers: 128 },
  /** f32 per group. */
  float: { step: 0, supers: 64 },
} as const;

const formats: ReadonlyMap<string, TileFormat> = /* @__PURE__ */ tileFormats();

function tileFormats(): ReadonlyMap<string, TileFormat> {
  const formats = new Map<string, TileFormat>([
    ['Q1_0', { bits: 1, levels: [0, 2], bias: -1, scales: 'shared', superInputs: 128 }],
    ['Q2_0', { bits: 2, bias: -1, scales: 'shared', superInputs: 64 }],
    ['TQ1_0', { bits: 2, bias: -1, scales: 'shared' }],
    ['TQ2_0', { bits: 2, bias: -1, scales: 'shared' }],
    ['Q2_K', { bits: 2, bias: 0, scales: 'super-pair-twice' }],
    ['Q3_K', { bits: 3, bias: -4, scales: 'super-signed-twice' }],
    ['Q4_0', { bits: 4, bias: -8, scales: 'half' }],
    ['Q4_1', { bits: 4, bias: 0, scales: 'half-pair' }],
    ['Q4_K', { bits: 4, bias: 0, scales: 'super-pair' }],
    ['IQ4_NL', { bits: 4, levels: nonLinear, bias: 0, scales: 'half' }],
    ['IQ4_XS', { bits: 4, levels: nonLinear, bias: 0, scales: 'super-signed' }],
    ['MXFP4', { bits: 4, levels: e2m1Doubled, bias: 0, scales: 'exponent' }],
    ['NVFP4', { bits: 4, levels: e2m1Doubled, bias: 0, scales: 'half-twice' }],
    ['Q5_0', { bits: 5, bias: -16, scales: 'half' }],
    ['Q5_1', { bits: 5, bias: 0, scales: 'half-pair' }],
    ['Q5_K', { bits: 5, bias: 0, scales: 'super-pair' }],
    ['Q6_K', { bits: 6, bias: -32, scales: 'super-signed-twice' }],
    ['Q8_0', { bits: 8, bias: -128, scales: 'half' }],
  ]);
  for (const type of groupedTypes) {
    formats.set(type.name, {
      bits: type.bits,
      levels: Array.from({ length: 2 ** type.bits }, (_, code) => groupedLevel(type.kind, code)),
      bias: 0,
      scales: isInteger(type) ? 'float-pair' : 'float',
      superInputs: type.elements,
    });
  }
  return formats;
}

/** Bytes of 16 rows × 32 inputs, and of the f16 factors of 16 rows. */
function stepBytes({ bits, scales }: TileFormat): { codes: number; scales: number; supers: number } {
  const { step, supers } = scaleForms[scales];
  return { codes: 64 * bits, scales: step, supers };
}

/** Where the super scales of a step begin. */
function superAt({ scales, superInputs = 256 }: TileFormat, index: number): number {
  return Math.floor((32 * index) / superInputs) * scaleForms[scales].supers;
}

/** Byte offsets of the parts of a tile, and where it ends. */
function tileParts(format: TileFormat, inFeatures: number): { scales: number; codes: number; end: number } {
  const step = stepBytes(format);
  const scales = upTo64(step.supers * Math.ceil(inFeatures / (format.superInputs ?? 256)));
  const codes = scales + upTo64(step.scales * (inFeatures / 32));
  return { scales, codes, end: codes + upTo64(step.codes * (inFeatures / 32)) };
}

function upTo64(bytes: number): number {
  return Math.ceil(bytes / 64) * 64;
}

/** Bytes of one tile of 16 rows × `inFeatures` weights; the parts are described in the native kernel (repack.rs). */
export function tileBytes(typeId: number, inFeatures: number): number {
  const { name, bytes } = weightLayoutById(typeId);
  const format = formats.get(name);
  return format ? tileParts(format, inFeatures).end : upTo64(inFeatures * bytes * tileRows);
}

/** Code of input e of 32 in the file block that holds `step`, as tiles store it. */
function fileCode(name: string, bytes: Uint8Array, block: number, step: number, e: number): number {
  const grouped = groupedType(name);
  if (grouped) return groupedCode(grouped, bytes, block, ((32 * step) % grouped.elements) + e);
  const nibble = (at: number): number => (e < 16 ? bytes[block + at + e] & 15 : bytes[block + at + e - 16] >> 4);
  const fifth = (at: number): number => ((bytes[block + at + (e >> 3)] >> (e & 7)) & 1) << 4;
  const sub = step % 8;
  const pair = (at: number): number => (bytes[block + at + 32 * (sub >> 2) + e] >> (2 * (sub & 3))) & 3;
  const half64 = (at: number): number => (bytes[block + at + 32 * (sub >> 1) + e] >> (4 * (sub & 1))) & 15;
  const subBit = (at: number): number => (bytes[block + at + e] >> sub) & 1;
  switch (name) {
    case 'Q1_0':
      return (bytes[block + field.Q1_0.qs + 4 * (step % 4) + (e >> 3)] >> (e & 7)) & 1;
    case 'Q2_0':
      return (bytes[block + field.Q2_0.qs + 8 * (step % 2) + (e >> 2)] >> (2 * (e & 3))) & 3;
    case 'TQ1_0':
      return ternaryDigit(bytes, block, 32 * sub + e);
    case 'TQ2_0':
      return pair(field.TQ2_0.qs);
    case 'Q2_K':
      return pair(field.Q2_K.qs);
    case 'Q3_K':
      return pair(field.Q3_K.qs) | (subBit(field.Q3_K.hmask) << 2);
    case 'Q4_0':
      return nibble(field.Q4_0.qs);
    case 'IQ4_NL':
      return nibble(field.IQ4_NL.qs);
    case 'MXFP4':
      return nibble(field.MXFP4.qs);
    case 'NVFP4': {
      const byte = bytes[block + field.NVFP4.qs + 16 * (step % 2) + 8 * (e >> 4) + (e & 7)];
      return (e & 15) < 8 ? byte & 15 : byte >> 4;
    }
    case 'IQ4_XS':
      return nibble(field.IQ4_XS.qs + 16 * sub);
    case 'Q4_1':
      return nibble(field.Q4_1.qs);
    case 'Q5_0':
      return nibble(field.Q5_0.qs) | fifth(field.Q5_0.qh);
    case 'Q5_1':
      return nibble(field.Q5_1.qs) | fifth(field.Q5_1.qh);
    case 'Q8_0':
      return bytes[block + field.Q8_0.qs + e] ^ 0x80;
    case 'Q4_K':
      return half64(field.Q4_K.qs);
    case 'Q5_K':
      return half64(field.Q5_K.qs) | (subBit(field.Q5_K.qh) << 4);
    default: {
      const [h, j] = [sub >> 2, sub & 3];
      const low = bytes[block + field.Q6_K.ql + 64 * h + 32 * (j & 1) + e];
      return (j < 2 ? low & 15 : low >> 4) | (((bytes[block + field.Q6_K.qh + 32 * h + e] >> (2 * j)) & 3) << 4);
    }
  }
}

/** The definition of the execution layout: packs up to 16 file rows into one zeroed tile. */
export function packTile(typeId: number, inFeatures: number, rows: readonly Uint8Array[], tile: Uint8Array): void {
  const layout = weightLayoutById(typeId);
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
      if (row) packScales(name, row, block, index, lane, tile, parts.scales);
      const at = parts.codes + index * step.codes;
      for (let e = 0; e < 32; e++) {
        // Padding rows decode to level 0: code 128 of signed bytes, and scale 0 everywhere else.
        const code = row ? fileCode(name, row, block, index, e) : bits === 8 && format.scales !== 'float' ? 128 : 0;
        const [vector, byte] = [e >> 2, 4 * lane + (e & 3)];
        const [pair, bit] = [64 * (vector >> 2) + byte, 8 * vector + (byte >> 3)];
        const high = highPart(bits);
        if (bits === 8) tile[at + 64 * vector + byte] = code;
        else if (bits >= 4) tile[at + 64 * (vector & 3) + byte] |= (code & 15) << (4 * (vector >> 2));
        else if (bits >= 2) tile[at + pair] |= (code & 3) << (2 * (vector & 3));
        if (high?.width === 1) tile[at + high.at + bit] |= (code >> high.shift) << (byte & 7);
        if (high?.width === 2) tile[at + high.at + pair] |= (code >> high.shift) << (2 * (vector & 3));
      }
    }
  }
}

/** Where the upper bits of codes lie that are no whole plane of nibbles or pairs, and by how much they are shifted. */
function highPart(bits: TileFormat['bits']): { at: number; width: 1 | 2; shift: number } | undefined {
  switch (bits) {
    case 1:
      return { at: 0, width: 1, shift: 0 };
    case 3:
      return { at: 128, width: 1, shift: 2 };
    case 5:
      return { at: 256, width: 1, shift: 4 };
    case 6:
      return { at: 256, width: 2, shift: 4 };
    default:
      return undefined;
  }
}

/** Offsets of fields where one piece of code serves several types. */
const offsetsOf: Readonly<Record<string, Readonly<Record<string, number>>>> = field;

function packScales(
  name: string,
  row: Uint8Array,
  block: number,
  index: number,
  lane: number,
  tile: Uint8Array,
  scales: number,
): void {
  const format = formats.get(name);
  if (!format) return;
  const at = scales + index * stepBytes(format).scales;
  const above = superAt(format, index);
  const sub = index & 7;
  const place = Object.hasOwn(offsetsOf, name) ? offsetsOf[name] : {};
  const scalesAt = block + place.scales;
  /** Copies an f16 field. */
  const put = (to: number, offset: number): void => {
    tile.set(row.subarray(block + offset, block + offset + 2), to + 2 * lane);
  };
  switch (format.scales) {
    case 'half':
      put(at, place.d);
      break;
    case 'half-pair':
      put(at, place.d);
      put(at + 32, place.m);
      break;
    case 'half-twice':
      for (let part = 0; part < 2; part++) {
        const bits = numberToF16(unsignedE4m3(row[block + place.d + 2 * (index & 1) + part]) / 2);
        tile.set([bits & 255, bits >> 8], at + 32 * part + 2 * lane);
      }
      break;
    case 'shared':
      put(above, place.d);
      break;
    case 'float-pair':
    case 'float': {
      const grouped = groupedType(name);
      if (!grouped) break;
      const { scale, offset } = groupedFactors(grouped, row, block);
      const view = new DataView(tile.buffer, tile.byteOffset + above + 4 * lane);
      view.setFloat32(0, scale, true);
      if (format.scales === 'float-pair') view.setFloat32(64, offset, true);
      break;
    }
    case 'exponent':
      tile[at + lane] = row[block + place.exponent];
      break;
    case 'super-pair': {
      put(above, place.d);
      put(above + 32, place.dmin);
      const { scale, minimum } = scaleAndMinimum(row, scalesAt, sub);
      tile[at + lane] = scale;
      tile[at + 16 + lane] = minimum;
      break;
    }
    case 'super-pair-twice':
      put(above, place.d);
      put(above + 32, place.dmin);
      for (let part = 0; part < 2; part++) tile[at + 16 * part + lane] = row[scalesAt + 2 * sub + part];
      break;
    case 'super-signed':
      put(above, place.d);
      tile[at + lane] = iq4Scale(row, block, sub);
      break;
    case 'super-signed-twice':
      put(above, place.d);
      for (let part = 0; part < 2; part++) {
        const t = 2 * sub + part;
        tile[at + 16 * part + lane] = name === 'Q3_K' ? q3Scale(row, scalesAt, t) - 32 : row[scalesAt + t];
      }
  }
}

/** Decodes one row of a tile into weights; the inverse of {@link packTile} up to the block encoding. */
export function unpackRow(typeId: number, inFeatures: number, tile: Uint8Array, lane: number, out: Float64Array): void {
  const layout = weightLayoutById(typeId);
  const { name } = layout;
  const half = (at: number): number => f16ToNumber(tile[at + 2 * lane] | (tile[at + 2 * lane + 1] << 8));
  const view = new DataView(tile.buffer, tile.byteOffset, tile.byteLength);
  const float = (at: number): number => view.getFloat32(at + 4 * lane, true);
  const format = formats.get(name);
  if (!format) {
    const one = new Uint8Array(layout.bytes);
    for (let k = 0; k < inFeatures; k++) {
      one.set(tile.subarray((k * tileRows + lane) * layout.bytes, (k * tileRows + lane + 1) * layout.bytes));
      decodeRow(name, one, 0, 1, out, k);
    }
    return;
  }
  const { bits, bias, levels } = format;
  const step = stepBytes(format);
  const parts = tileParts(format, inFeatures);
  const signed = (at: number): number => (tile[at + lane] << 24) >> 24;
  for (let k = 0; k < inFeatures; k++) {
    const [index, e] = [k >> 5, k & 31];
    const at = parts.codes + index * step.codes;
    const [vector, byte] = [e >> 2, 4 * lane + (e & 3)];
    const [pair, bit] = [64 * (vector >> 2) + byte, 8 * vector + (byte >> 3)];
    const high = highPart(bits);
    let code = 0;
    if (bits === 8) code = tile[at + 64 * vector + byte];
    else if (bits >= 4) code = (tile[at + 64 * (vector & 3) + byte] >> (4 * (vector >> 2))) & 15;
    else if (bits >= 2) code = (tile[at + pair] >> (2 * (vector & 3))) & 3;
    if (high?.width === 1) code |= ((tile[at + high.at + bit] >> (byte & 7)) & 1) << high.shift;
    if (high?.width === 2) code |= ((tile[at + high.at + pair] >> (2 * (vector & 3))) & 3) << high.shift;
    const level = (levels ? levels[code] : code) + bias;
    const scaleAt = parts.scales + index * step.scales;
    const above = superAt(format, index);
    const part = e >> 4;
    switch (format.scales) {
      case 'half':
        out[k] = half(scaleAt) * level;
        break;
      case 'half-pair':
        out[k] = half(scaleAt) * level + half(scaleAt + 32);
        break;
      case 'half-twice':
        out[k] = half(scaleAt + 32 * part) * level;
        break;
      case 'shared':
        out[k] = half(above) * level;
        break;
      case 'float-pair':
        out[k] = float(above) * level + float(above + 64);
        break;
      case 'float':
        out[k] = float(above) * level;
        break;
      case 'exponent':
        out[k] = e8m0Half(tile[scaleAt + lane]) * level;
        break;
      case 'super-pair':
        out[k] = half(above) * tile[scaleAt + lane] * level - half(above + 32) * tile[scaleAt + 16 + lane];
        break;
      case 'super-pair-twice': {
        const both = tile[scaleAt + 16 * part + lane];
        out[k] = half(above) * (both & 15) * level - half(above + 32) * (both >> 4);
        break;
      }
      case 'super-signed':
        out[k] = half(above) * signed(scaleAt) * level;
        break;
      case 'super-signed-twice':
        out[k] = half(above) * signed(scaleAt + 16 * part) * level;
    }
  }
}
