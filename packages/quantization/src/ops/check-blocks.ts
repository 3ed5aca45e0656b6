import { DTypeError, ShapeError, formatShape, type TensorMeta } from '@filigree/core-tensor';
import { rowBytes, weightLayoutById, type WeightTypeLayout } from '../gguf/types.js';

/** Checks that `blocks` is u8 [rows, bytes of `inFeatures` weights of the type]; returns the type's layout. */
export function checkBlocks(
  op: string,
  name: string,
  blocks: TensorMeta,
  typeId: number,
  inFeatures: number,
): WeightTypeLayout {
  const layout = weightLayoutById(typeId);
  if (blocks.dtype !== 'u8') throw new DTypeError(`${op}: ${name} is ${blocks.dtype}, blocks are u8`);
  const bytes = rowBytes(layout.name, inFeatures);
  if (blocks.shape.length !== 2 || blocks.shape[1] !== bytes) {
    throw new ShapeError(
      `${op}: ${name} is ${formatShape(blocks.shape)}, rows of ${inFeatures} ${layout.name} weights have ${bytes} bytes`,
    );
  }
  return layout;
}
