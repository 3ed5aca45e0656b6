import { numberToF16 } from '@filigree/core-tensor';
import { blockFields, decodeRow, ggufLayout } from '@filigree/quantization';
import { describe, expect, it } from 'vitest';

interface Golden {
  /** Bytes that are set after the fill, from byte 0. */
  readonly bytes?: readonly number[];
  /** Σ w, Σ (i + 1) w, Σ w². */
  readonly sums: readonly [number, number, number];
}

/**
 * What ggml's own decoders (ggml-org/ggml, dequantize_row_*) make of one block of bytes (37 i + 11) mod 256 with known scales: the first f16
 * field is 0.5, the second 0.25.
 */
const goldens: Readonly<Record<string, Golden>> = {
  Q4_0: { sums: [-10.5, -259, 161.25] },
  Q4_1: { sums: [130.5, 2123.5, 695] },
  Q5_0: { sums: [7.5, 56, 656.75] },
  Q5_1: { sums: [260.5, 4082.5, 2824.5] },
  Q8_0: { sums: [-88, -4040, 47564] },
  Q2_K: { sums: [1029.5, 121565, 13619] },
  Q3_K: { sums: [479, 88572.5, 142176.5] },
  Q4_K: { sums: [27220, 3786420, 6041305] },
  Q5_K: { sums: [58108, 8013724, 25707205] },
  Q6_K: { sums: [2306, 392210, 118475065] },
  IQ4_NL: { sums: [-128.5, -3459.5, 33573.25] },
  IQ4_XS: { sums: [-5502.5, -1045567, 60747839.25] },
  MXFP4: { bytes: [127], sums: [12.5, 319, 284.25] },
  NVFP4: { bytes: [0x38, 0x3c, 0x40, 0x01], sums: [-32.48925781, -1238.829102, 921.2505083] },
  TQ1_0: { sums: [-1, -65.5, 43.5] },
  TQ2_0: { sums: [64.5, 8622.5, 97.25] },
  Q1_0: { sums: [0, -266, 32] },
  Q2_0: { sums: [15, 406.5, 23.5] },
};

describe('GGUF blocks', () => {
  it.each(Object.keys(goldens))('%s decodes to what ggml decodes', (type) => {
    const { bytes = [], sums } = goldens[type];
    const halves = blockFields(type).filter(({ dtype }) => dtype === 'f16');
    const { elements, bytes: size } = ggufLayout(type);
    const block = Uint8Array.from({ length: size }, (_, index) => (37 * index + 11) & 255);
    const view = new DataView(block.buffer);
    for (const [index, { offset }] of halves.entries()) view.setUint16(offset, numberToF16(index === 0 ? 0.5 : 0.25), true);
    block.set(bytes);
    const weights = new Float64Array(elements);
    decodeRow(type, block, 0, elements, weights);
    const found = [0, 0, 0];
    for (const [index, weight] of weights.entries()) {
      found[0] += weight;
      found[1] += (index + 1) * weight;
      found[2] += weight * weight;
    }
    // Sums of dyadic fractions are exact; those of NVFP4 are written with ten digits.
    for (const [index, sum] of sums.entries()) {
      if (type === 'NVFP4') expect(found[index] / sum).toBeCloseTo(1, 8);
      else expect(found[index]).toBe(sum);
    }
  });
});
