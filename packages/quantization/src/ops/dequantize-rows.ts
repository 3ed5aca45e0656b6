import { caseTensor, defineOp, DTypeError, ExecutionError, type Tensor } from '@filigree/core-tensor';
import { seededBlocks } from '../cases.js';
import { decodeRow } from '../gguf/decode-row.js';
import { weightLayout, weightLayoutById, weightTypes } from '../gguf/types.js';
import { checkBlocks } from './check-blocks.js';
import { dequantizeRowsKernel } from './webgpu-dequantize.js';

/**
 * y[i] = row ids[i] of the weights, as f32: an embedding lookup in quantised blocks.
 *
 * blocks [N, rowBytes] u8 in the file's layout, ids [R] i32 → y [R, inFeatures] f32. Moves R·(rowBytes + 4·inFeatures) bytes.
 * An id outside of the table fails the op when it runs; on WebGPU it gives zeros.
 */
export const dequantizeRowsOp = /* @__PURE__ */ defineOp({
  name: 'quantization/dequantize-rows',
  inputs: ['blocks', 'ids'],
  outputs: ['y'],
  attributes: { type: { type: 'number' }, inFeatures: { type: 'number' } },
  infer({ blocks, ids }, { type, inFeatures }) {
    checkBlocks('dequantize-rows', 'blocks', blocks, type, inFeatures);
    if (ids.dtype !== 'i32' || ids.shape.length !== 1) throw new DTypeError('dequantize-rows: ids must be i32 [rows]');
    return { y: { shape: [ids.shape[0], inFeatures], dtype: 'f32' } };
  },
  reference({ blocks, ids, y }, { type, inFeatures }) {
    const { name } = weightLayoutById(type);
    const [rows, width] = blocks.shape;
    const row = new Float64Array(inFeatures);
    for (let index = 0; index < ids.data.length; index++) {
      const id = ids.data[index];
      if (id < 0 || id >= rows) throw new ExecutionError(`dequantize-rows: id ${id} is outside of a table of ${rows} rows`);
      decodeRow(name, blocks.data as Uint8Array, id * width, inFeatures, row);
      y.data.set(row, index * inFeatures);
    }
  },
  native: 'quantization_dequantize_rows',
  webgpu: dequantizeRowsKernel,
  tolerance: { y: { absolute: 1e-6, relative: 1e-6 } },
  cases: (fc) =>
    fc
      .record({
        type: fc.constantFrom(...weightTypes),
        rows: fc.integer({ min: 1, max: 20 }),
        blocks: fc.integer({ min: 1, max: 3 }),
        count: fc.nat(5),
        seed: fc.nat(1e6),
      })
      .chain(({ type, rows, blocks, count, seed }) => {
        const { id, elements } = weightLayout(type);
        const inFeatures = blocks * Math.max(elements, 4);
        return fc.record({
          inputs: fc.record({
            blocks: fc.constant(seededBlocks(seed, id, rows, inFeatures)),
            ids: caseTensor(fc, [count], { dtype: 'i32', low: 0, high: rows - 1 }),
          }),
          attributes: fc.constant({ type: id, inFeatures }),
        });
      }),
});

/** Rows of a quantised table as f32. */
export function dequantizeRows(blocks: Tensor, ids: Tensor, type: string, inFeatures: number): Tensor {
  return dequantizeRowsOp({ blocks, ids }, { type: weightLayout(type).id, inFeatures }).y;
}
