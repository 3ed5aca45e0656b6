import { fromArray, seededTensor, type Backend, type HostTensor } from '@filigree/core-tensor';
import {
  decodeRow,
  dequantizeRows,
  dequantizeRowsOp,
  ggufLayouts,
  kernelTypes,
  takesFloats,
  weightLayout,
  weightTypes,
  matmulOp,
  quantizeActivations,
  seededBlocks,
} from '@filigree/quantization';
import { backendsUnderTest } from '@filigree/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const rows = 5;

it('every type whose weights can be decoded has kernels', () => {
  expect([...kernelTypes].sort()).toEqual([...ggufLayouts.keys()].sort());
});

// Generated cases draw the type: here each one runs on each backend, whatever the number of cases.
describe.each(
  backendsUnderTest()
    // How types are decoded does not depend on how sums are added.
    .filter((under) => under.covers(matmulOp) && !under.variant(matmulOp).includes('subgroups'))
    .map((under) => [under.name, under] as const),
)('on %s', (_, under) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await under.create([dequantizeRowsOp, matmulOp]);
  });
  afterAll(() => {
    backend.dispose();
  });
  const upload = ({ data, shape, dtype }: HostTensor) => fromArray(backend, data, shape, dtype);

  it.each(weightTypes)('%s rows are decoded, and multiplied with a vector', async (type) => {
    const { id } = weightLayout(type);
    const inFeatures = 256;
    const blocks = seededBlocks(id + 1, id, rows, inFeatures);
    const expected = new Float32Array(rows * inFeatures);
    const width = blocks.shape[1];
    for (let row = 0; row < rows; row++)
      decodeRow(type, blocks.data as Uint8Array, row * width, inFeatures, expected.subarray(row * inFeatures));
    const ids = fromArray(backend, [4, 3, 2, 1, 0], [rows], 'i32');
    const decoded = await dequantizeRows(upload(blocks), ids, type, inFeatures).readNumbers();
    for (let row = 0; row < rows; row++) {
      const found = Array.from(decoded.subarray((rows - 1 - row) * inFeatures, (rows - row) * inFeatures));
      const wanted = Array.from(expected.subarray(row * inFeatures, (row + 1) * inFeatures));
      // Without a fused operation, an f32 offset is added to a product that has been rounded.
      const furthest = Math.max(...found.map((value, k) => Math.abs(value - wanted[k])));
      if (type.startsWith('INT')) expect(furthest).toBeLessThan(1e-6);
      // −0 is as good as 0.
      else expect(found.map((value) => value + 0)).toEqual(wanted.map((value) => value + 0));
    }
    const x = seededTensor(3, [1, inFeatures]);
    // Dots of bytes are for quantised inputs alone, which floats never take.
    const activations = under.variant(matmulOp).startsWith('dot4') ? 'q8-32' : 'none';
    const values = Float64Array.from(x.data);
    if (activations === 'q8-32' && !takesFloats(type)) quantizeActivations(x.data, 0, values);
    const attributes = { type: id, outFeatures: rows, inFeatures, activations } as const;
    const product = await matmulOp({ x: upload(x), weights: upload(blocks) }, attributes).y.readNumbers();
    for (let row = 0; row < rows; row++) {
      let sum = 0;
      for (let k = 0; k < inFeatures; k++) sum += expected[row * inFeatures + k] * values[k];
      expect(product[row]).toBeCloseTo(sum, 2);
    }
  });
});
