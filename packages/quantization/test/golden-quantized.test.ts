import { createHash } from 'node:crypto';
import { encodeRow, ggufLayout, quantizedTypes, rowBytes } from '@filigree/quantization';
import { describe, expect, it } from 'vitest';
import goldens from './goldens/quantized-blocks.json' with { type: 'json' };
import { goldenRows, goldenWeights, goldenWidth } from './support/golden-weights.js';

describe('weights quantised by the TypeScript encoders', () => {
  it.each(Object.entries(goldens))('are the bytes of llama.cpp in %s', (type, golden) => {
    const width = rowBytes(type, goldenWidth);
    const out = new Uint8Array(goldenRows * width);
    for (let row = 0; row < goldenRows; row++)
      encodeRow(type, goldenWeights().subarray(row * goldenWidth, (row + 1) * goldenWidth), out, row * width);
    expect(createHash('sha256').update(out).digest('hex')).toBe(golden);
  });

  it('have a golden in every type that llama-quantize writes', () => {
    const without = quantizedTypes.filter((type) => !Object.hasOwn(goldens, type));
    expect(without).toEqual(['F32', 'MXFP4', 'NVFP4']);
  });

  it.each(quantizedTypes.filter((type) => ggufLayout(type).elements > 1))(
    'decode to NaN in %s where a weight is NaN',
    (type) => {
      const { elements, bytes } = ggufLayout(type);
      const out = new Uint8Array(bytes);
      encodeRow(type, new Float32Array(elements).fill(1).fill(Number.NaN, 3, 4), out);
      expect(out.every((byte) => byte === 255)).toBe(true);
    },
  );
});
