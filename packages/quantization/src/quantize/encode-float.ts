import { numberToBf16, numberToF16 } from '@filigree/core-tensor';
import type { BlockEncoder } from './encode-block.js';

const words = new DataView(new ArrayBuffer(4));

function put(out: Uint8Array, at: number, bits: number, bytes: number): void {
  for (let byte = 0; byte < bytes; byte++) out[at + byte] = (bits >>> (8 * byte)) & 255;
}

/** Single floats; NaN and ∞ stay what they are. */
export const floatEncoders = {
  F32([value], out, at) {
    words.setFloat32(0, value);
    put(out, at, words.getUint32(0), 4);
  },
  F16([value], out, at) {
    put(out, at, numberToF16(value), 2);
  },
  BF16([value], out, at) {
    put(out, at, numberToBf16(value), 2);
  },
} satisfies Record<string, BlockEncoder>;
