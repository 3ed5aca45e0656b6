import { createNativeBackend } from '@filigree/backend-native';
import { fromArray, seededTensor } from '@filigree/core-tensor';
import { decodeRow, quantize, quantizedTypes } from '@filigree/quantization';
import { afterAll, describe, expect, it } from 'vitest';

/** Squared error over squared weights of unit gaussians, as the reference encoders of each format make them; drawn apart from this project. */
const published: Readonly<Record<string, number>> = {
  Q8_0: 2.868e-5,
  Q6_K: 3.141e-4,
  Q5_K: 1.303e-3,
  Q5_1: 1.432e-3,
  Q5_0: 1.825e-3,
  Q4_K: 5.083e-3,
  Q4_1: 6.11e-3,
  Q4_0: 7.39e-3,
  IQ4_XS: 5.881e-3,
  NVFP4: 9.028e-3,
  MXFP4: 1.322e-2,
  Q3_K: 2.278e-2,
  Q2_K: 8.8e-2,
  TQ1_0: 6.518e-1,
  TQ2_0: 6.518e-1,
  Q1_0: 3.605e-1,
};

/** The same of IQ4_NL without the search over scales, which ggml's reference function leaves out and `llama-quantize` does. */
const nonLinearWithoutSearch = 6.184e-3;

describe('the error on gaussian weights', () => {
  const backend = createNativeBackend({ threads: 2, fallback: 'error' });
  afterAll(() => {
    backend.dispose();
  });
  const [rows, inputs] = [64, 4096];
  const { data } = seededTensor(1, [rows, inputs]);

  async function nmse(type: string): Promise<number> {
    const x = fromArray(backend, data, [rows, inputs]);
    const blocks = quantize(x, type);
    const bytes = await blocks.readBytes();
    x.dispose();
    blocks.dispose();
    const decoded = new Float64Array(data.length);
    // Rows are whole blocks, so that all of them are one row.
    decodeRow(type, bytes, 0, data.length, decoded);
    let [error, power] = [0, 0];
    for (const [index, value] of data.entries()) {
      error += (decoded[index] - value) ** 2;
      power += value ** 2;
    }
    return error / power;
  }

  it.each(Object.keys(published))('%s: within 3 % of what is published', async (type) => {
    expect(Math.abs((await nmse(type)) / published[type] - 1)).toBeLessThan(0.03);
  });

  it('IQ4_NL: some percent better than without the search over scales', async () => {
    const ratio = (await nmse('IQ4_NL')) / nonLinearWithoutSearch;
    expect(ratio).toBeLessThan(0.97);
    expect(ratio).toBeGreaterThan(0.91);
  });

  it('Q2_0: better than TQ2_0, which has the same three levels over the peak of more weights', async () => {
    expect(await nmse('Q2_0')).toBeLessThan(published.TQ2_0);
  });

  it('is looked at for every type with blocks', () => {
    const floats = ['F32', 'F16', 'BF16'];
    const looked = [...Object.keys(published), 'IQ4_NL', 'Q2_0', ...floats];
    expect(looked.sort()).toEqual([...quantizedTypes].sort());
  });
});
