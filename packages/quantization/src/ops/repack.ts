import { defineOp, type Tensor } from '@filigree/core-tensor';
import { packedBlocks, seededBlocks } from '../cases.js';
import { rowBytes, weightLayout, weightTypes } from '../gguf/types.js';
import { tileBytes, tileRows } from '../packed-layout.js';
import { checkBlocks } from './check-blocks.js';

/**
 * File rows → the execution layout of the native kernels: tiles of 16 rows × all inputs, the same bits per weight.
 *
 * blocks [N, rowBytes] u8 → packed [ceil(N / 16), tileBytes] u8. Moves N·rowBytes in and out once. The layout is drawn in the native
 * kernel's header (kernels/native/kernels/src/quantization/repack.rs) and defined by `packTile`.
 */
export const repackOp = /* @__PURE__ */ defineOp({
  name: 'quantization/repack',
  inputs: ['blocks'],
  outputs: ['packed'],
  attributes: { type: { type: 'number' }, inFeatures: { type: 'number' } },
  infer({ blocks }, { type, inFeatures }) {
    checkBlocks('repack', 'blocks', blocks, type, inFeatures);
    return { packed: { shape: [Math.ceil(blocks.shape[0] / tileRows), tileBytes(type, inFeatures)], dtype: 'u8' } };
  },
  reference({ blocks, packed }, { type, inFeatures }) {
    packed.data.set(packedBlocks(blocks, type, inFeatures).data);
  },
  native: 'quantization_repack',
  nativeOnly: 'it makes the execution layout of the native kernels; shaders read the blocks as they lie in the file',
  cases: (fc) =>
    fc
      .record({
        type: fc.constantFrom(...weightTypes),
        rows: fc.nat(37),
        blocks: fc.integer({ min: 0, max: 3 }),
        seed: fc.nat(1e6),
      })
      .map(({ type, rows, blocks, seed }) => {
        const { id, elements } = weightLayout(type);
        const inFeatures = blocks * elements;
        return { inputs: { blocks: seededBlocks(seed, id, rows, inFeatures) }, attributes: { type: id, inFeatures } };
      }),
});

/** Blocks [N, rowBytes] of a GGUF type in the execution layout. */
export function repack(blocks: Tensor, type: string, inFeatures: number): Tensor {
  rowBytes(type, inFeatures);
  return repackOp({ blocks }, { type: weightLayout(type).id, inFeatures }).packed;
}
