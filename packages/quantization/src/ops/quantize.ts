import { caseTensor, defineOp, DTypeError, formatShape, ShapeError, type Tensor } from '@filigree/core-tensor';
import { ggufLayout, rowBytes, weightLayoutById } from '../gguf/types.js';
import { assertQuantizedType, encodeRow, quantizedTypes } from '../quantize/encode-row.js';

/**
 * Rows of f32 → blocks of a GGUF type, with the rounding of ggml's reference encoders (docs/decisions/0010).
 *
 * x [R, K] f32 → blocks [R, rowBytes] u8. A block with NaN or ∞ becomes one that decodes to NaN.
 */
export const quantizeOp = /* @__PURE__ */ defineOp({
  name: 'quantization/quantize',
  inputs: ['x'],
  outputs: ['blocks'],
  attributes: { type: { type: 'number' } },
  infer({ x }, { type }) {
    if (x.dtype !== 'f32') throw new DTypeError(`quantize: x is ${x.dtype}, it takes f32`);
    if (x.shape.length !== 2) throw new ShapeError(`quantize: x is ${formatShape(x.shape)}, it takes [rows, inputs]`);
    const { name } = weightLayoutById(type);
    assertQuantizedType(name);
    return { blocks: { shape: [x.shape[0], rowBytes(name, x.shape[1])], dtype: 'u8' } };
  },
  reference({ x, blocks }, { type }) {
    const { name } = weightLayoutById(type);
    const [rows, inputs] = x.shape;
    const out = blocks.data as Uint8Array;
    for (let row = 0; row < rows; row++)
      encodeRow(name, Float32Array.from(x.data.subarray(row * inputs, (row + 1) * inputs)), out, row * blocks.shape[1]);
  },
  native: 'quantization_quantize',
  nativeOnly: 'models are quantised where their files are; the searches of k-quants need the rounding of every operation',
  // Bytes must be the same.
  tolerance: { blocks: { absolute: 0, relative: 0 } },
  cases: (fc) =>
    fc
      .record({ type: fc.constantFrom(...quantizedTypes), rows: fc.nat(5), blocks: fc.integer({ min: 1, max: 3 }) })
      .chain(({ type, rows, blocks }) => {
        const { id, elements } = ggufLayout(type);
        return fc.record({
          inputs: fc.record({ x: caseTensor(fc, [rows, blocks * elements]) }),
          attributes: fc.constant({ type: id }),
        });
      }),
});

/** Rows x [R, K] as blocks [R, rowBytes] u8 of a GGUF type. */
export function quantize(x: Tensor, type: string): Tensor {
  return quantizeOp({ x }, { type: ggufLayout(type).id }).blocks;
}
