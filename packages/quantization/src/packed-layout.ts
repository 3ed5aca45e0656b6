import { f16ToNumber } from '@filigree/core-tensor';
import { decodeRow } from './gguf/decode-row.js';
import { scaleAndMinimum } from './gguf/scales.js';
import { ggufLayoutById } from './gguf/types.js';

/** Rows per execution tile: the lanes of the native kernels. */
export const tileRows = 16;

const perStep: Readonly<Record<string, { codes: number; scales: number; supers: number }>> = {
  Q4_0: { codes: 256, scales: 32, supers: 0 },
  Q4_1: { codes: 256, scales: 64, supers: 0 },
  Q5_0: { codes: 320, scales: 32, supers: 0 },
  Q8_0: { codes: 512, scales: 32, supers: 0 },
  Q4_K: { codes: 256, scales: 32, supers: 64 },
  Q6_K: { codes: 384, scales: 32, supers: 32 },
};

/** Bytes of one tile of 16 rows × `inFeatures` weights; the parts are described in the native kernel (repack.rs). */
export function tileBytes(typeId: number, inFeatures: number): number {
  const { name, bytes } = ggufLayoutById(typeId);
  const up = (count: number): number => Math.ceil(count / 64) * 64;
  const step = perStep[name];
  if (!step) return up(inFeatures * bytes * tileRows);
  const steps = inFeatures / 32;
  return up(step.supers * Math.ceil(inFeatures / 256)) + up(step.scales * steps) + up(step.codes * steps);
}

/** Byte offsets of the parts of a tile. */
function tileParts(name: string, inFeatures: number): { scales: number; codes: number } {
  const up = (count: number): number => Math.ceil(count / 64) * 64;
  const step = perStep[name];
  const scales = up(step.supers * Math.ceil(inFeatures / 256));
  return { scales, codes: scales + up(step.scales * (inFeatures / 32)) };
}

/** Unsigned code of input e of 32 in the file block that holds `step`, as the kernels store it. */
function fileCode(name: string, bytes: Uint8Array, block: number, step: number, e: number): number {
  const nibble = (at: number): number => (e < 16 ? bytes[at + e] & 15 : bytes[at + e - 16] >> 4);
  const sub = step % 8;
  switch (name) {
    case 'Q4_0':
      return nibble(block + 2);
    case 'Q4_1':
      return nibble(block + 4);
    case 'Q5_0':
      return nibble(block + 6) | (((bytes[block + 2 + (e >> 3)] >> (e & 7)) & 1) << 4);
    case 'Q8_0':
      return bytes[block + 2 + e] ^ 0x80;
    case 'Q4_K':
      return (bytes[block + 16 + 32 * (sub >> 1) + e] >> (4 * (sub & 1))) & 15;
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
  const step = perStep[name];
  if (!step) {
    for (const [lane, row] of rows.entries()) {
      for (let k = 0; k < inFeatures; k++) {
        tile.set(row.subarray(k * layout.bytes, (k + 1) * layout.bytes), (k * tileRows + lane) * layout.bytes);
      }
    }
    return;
  }
  const parts = tileParts(name, inFeatures);
  for (let lane = 0; lane < tileRows; lane++) {
    const row = lane < rows.length ? rows[lane] : undefined;
    for (let index = 0; index < inFeatures / 32; index++) {
      const block = Math.floor((index * 32) / layout.elements) * layout.bytes;
      if (row) packScales(name, row, block, index, lane, tile, parts.scales);
      const at = parts.codes + index * step.codes;
      for (let e = 0; e < 32; e++) {
        // Padding rows decode to level 0: code 128 of Q8_0, and scale 0 everywhere else.
        const code = row ? fileCode(name, row, block, index, e) : name === 'Q8_0' ? 128 : 0;
        const [vector, byte] = [e >> 2, 4 * lane + (e & 3)];
        if (name === 'Q8_0') {
          tile[at + 64 * vector + byte] = code;
          continue;
        }
        tile[at + 64 * (vector & 3) + byte] |= (code & 15) << (4 * (vector >> 2));
        if (name === 'Q5_0') tile[at + 256 + 8 * vector + (byte >> 3)] |= (code >> 4) << (byte & 7);
        if (name === 'Q6_K') tile[at + 256 + 64 * (vector >> 2) + byte] |= (code >> 4) << (2 * (vector & 3));
      }
    }
  }
}

function packScales(
  name: string,
  row: Uint8Array,
  block: number,
  index: number,
  lane: number,
  tile: Uint8Array,
  scales: number,
): void {
  const at = scales + index * perStep[name].scales;
  const put = (to: number, from: number): void => {
    tile.set(row.subarray(from, from + 2), to + 2 * lane);
  };
  if (name === 'Q4_K') {
    const superAt = (index >> 3) * 64;
    put(superAt, block);
    put(superAt + 32, block + 2);
    const { scale, minimum } = scaleAndMinimum(row, block + 4, index & 7);
    tile[at + lane] = scale;
    tile[at + 16 + lane] = minimum;
  } else if (name === 'Q6_K') {
    put((index >> 3) * 32, block + 208);
    tile[at + lane] = row[block + 192 + 2 * (index & 7)];
    tile[at + 16 + lane] = row[block + 193 + 2 * (index & 7)];
  } else {
    put(at, block);
    if (name === 'Q4_1') put(at + 32, block + 2);
  }
}

/** Decodes one row of a tile into weights; the inverse of {@link packTile} up to the block encoding. */
export function unpackRow(typeId: number, inFeatures: number, tile: Uint8Array, lane: number, out: Float64Array): void {
  const layout = ggufLayoutById(typeId);
  const { name } = layout;
  const step = perStep[name];
  const half = (at: number): number => f16ToNumber(tile[at + 2 * lane] | (tile[at + 2 * lane + 1] << 8));
  if (!step) {
    const one = new Uint8Array(layout.bytes);
    for (let k = 0; k < inFeatures; k++) {
      one.set(tile.subarray((k * tileRows + lane) * layout.bytes, (k * tileRows + lane + 1) * layout.bytes));
      decodeRow(name, one, 0, 1, out, k);
    }
    return;
  }
  const parts = tileParts(name, inFeatures);
  for (let k = 0; k < inFeatures; k++) {
    const [index, e] = [k >> 5, k & 31];
    const at = parts.codes + index * step.codes;
    const [vector, byte] = [e >> 2, 4 * lane + (e & 3)];
    let code =
      name === 'Q8_0' ? tile[at + 64 * vector + byte] : (tile[at + 64 * (vector & 3) + byte] >> (4 * (vector >> 2))) & 15;
    if (name === 'Q5_0') code |= ((tile[at + 256 + 8 * vector + (byte >> 3)] >> (byte & 7)) & 1) << 4;
    if (name === 'Q6_K') code |= ((tile[at + 256 + 64 * (vector >> 2) + byte] >> (2 * (vector & 3))) & 3) << 4;
    const scaleAt = parts.scales + index * step.scales;
    if (name === 'Q4_K') {
      const superAt = (index >> 3) * 64;
      out[k] = half(superAt) * tile[scaleAt + lane] * code - half(superAt + 32) * tile[scaleAt + 16 + lane];
    } else if (name === 'Q6_K') {
      const scale = (tile[scaleAt + 16 * (e >> 4) + lane] << 24) >> 24;
      out[k] = half((index >> 3) * 32) * scale * (code - 32);
    } else if (name === 'Q4_1') out[k] = half(scaleAt) * code + half(scaleAt + 32);
    else out[k] = half(scaleAt) * (code - (name === 'Q4_0' ? 8 : name === 'Q5_0' ? 16 : 128));
  }
}
