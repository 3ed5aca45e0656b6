import { numberToF16, Random, type HostTensor } from '@filigree/core-tensor';
import { blockFields } from './gguf/block-fields.js';
import { rowBytes, weightLayoutById } from './gguf/types.js';
import { groupedType } from './grouped/types.js';
import { packTile, tileBytes, tileRows } from './packed-layout.js';

/** Random blocks [rows, rowBytes] of a type whose scales are of the size real weights have. */
export function seededBlocks(seed: number, typeId: number, rows: number, inFeatures: number): HostTensor {
  const layout = weightLayoutById(typeId);
  const width = rowBytes(layout.name, inFeatures);
  const random = new Random(seed);
  const data = new Uint8Array(rows * width);
  for (let index = 0; index < data.length; index++) data[index] = random.nextInt(256);
  const view = new DataView(data.buffer);
  const [fields, grouped] = [blockFields(layout.name), groupedType(layout.name)];
  for (let block = 0; block + layout.bytes <= data.length; block += layout.bytes) {
    if (layout.name === 'F32') view.setFloat32(block, random.nextNormal() / 8, true);
    if (layout.name === 'BF16') view.setUint16(block, numberToBits(random.nextNormal() / 8), true);
    if (layout.name === 'NVFP4') for (let sub = 0; sub < 4; sub++) data[block + sub] = random.nextInt(32);
    if (layout.name === 'MXFP4') data[block] = 118 + random.nextInt(8);
    // Neither NaN nor large values.
    if (grouped?.kind === 'E4M3' || grouped?.kind === 'E5M2')
      for (let at = block; at < block + layout.bytes; at++) data[at] &= 0xbf;
    // Scales and offsets: random bits there would mostly be huge or NaN.
    for (const { dtype, offset } of layout.name === 'F32' ? [] : fields) {
      if (dtype === 'f16') view.setUint16(block + offset, numberToF16((random.nextFloat() - 0.3) / 16), true);
      if (dtype === 'f32') view.setFloat32(block + offset, (random.nextFloat() - 0.3) / 16, true);
    }
  }
  return { shape: [rows, width], dtype: 'u8', data };
}

function numberToBits(value: number): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, value);
  return view.getUint16(0);
}

/** The same blocks in the execution layout [tiles, tileBytes]. */
export function packedBlocks(blocks: HostTensor, typeId: number, inFeatures: number): HostTensor {
  const [rows, width] = blocks.shape;
  const bytes = tileBytes(typeId, inFeatures);
  const tiles = Math.ceil(rows / tileRows);
  const data = new Uint8Array(tiles * bytes);
  const source = blocks.data as Uint8Array;
  for (let tile = 0; tile < tiles; tile++) {
    const members = Array.from({ length: Math.min(tileRows, rows - tile * tileRows) }, (_, lane) => {
      const row = tile * tileRows + lane;
      return source.subarray(row * width, (row + 1) * width);
    });
    packTile(typeId, inFeatures, members, data.subarray(tile * bytes, (tile + 1) * bytes));
  }
  return { shape: [tiles, bytes], dtype: 'u8', data };
}
