import { OptionError } from '@filigree/core-tensor';
import { ggufLayout } from '../gguf/types.js';
import type { BlockEncoder } from './encode-block.js';
import { floatEncoders } from './encode-float.js';
import { fp4Encoders } from './encode-fp4.js';
import { offsetKEncoders } from './encode-k-offset.js';
import { symmetricKEncoders } from './encode-k-symmetric.js';
import { nonLinearEncoders } from './encode-non-linear.js';
import { smallEncoders } from './encode-small.js';
import { uniformEncoders } from './encode-uniform.js';

const encoders: Readonly<Record<string, BlockEncoder>> = /* @__PURE__ */ Object.assign(
  {},
  floatEncoders,
  uniformEncoders,
  offsetKEncoders,
  symmetricKEncoders,
  nonLinearEncoders,
  fp4Encoders,
  smallEncoders,
);

/** GGUF types that weights can be quantised to. */
export const quantizedTypes: readonly string[] = /* @__PURE__ */ Object.keys(encoders);

/** Throws an OptionError with the list of the types that weights can be quantised to, unless `type` is one. */
export function assertQuantizedType(type: string): void {
  if (!quantizedTypes.includes(type))
    throw new OptionError(`'${type}' is no type to quantise to; there are ${quantizedTypes.join(', ')}`);
}

/**
 * Writes `x` as blocks of the type to zeroed `out` from `at`, with the rounding of ggml's reference encoders (docs/decisions/0010). A block
 * that holds NaN or ∞ gets all bits set, which makes its half-precision scales NaN.
 */
export function encodeRow(type: string, x: Float32Array, out: Uint8Array, at = 0): void {
  assertQuantizedType(type);
  const { elements, bytes } = ggufLayout(type);
  for (let block = 0; block < x.length / elements; block++) {
    const place = at + block * bytes;
    const values = x.subarray(block * elements, (block + 1) * elements);
    if (elements === 1 || values.every(Number.isFinite)) encoders[type](values, out, place);
    else out.fill(255, place, place + bytes);
  }
}
