import { bf16ToNumber, f16ToNumber } from '@filigree/core-tensor';
import { blockDecoders } from './decode-block.js';
import { decodeGroup } from '../grouped/blocks.js';
import { groupedType } from '../grouped/types.js';
import { weightLayout } from './types.js';

/** Decodes `count` weights of one row whose bytes start at `at` into `out` from `to`, exactly (before rounding to `out`'s type). */
export function decodeRow(
  type: string,
  bytes: Uint8Array,
  at: number,
  count: number,
  out: Float32Array | Float64Array,
  to = 0,
): void {
  const layout = weightLayout(type);
  const grouped = groupedType(type);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let done = 0; done < count; done += layout.elements) {
    const block = at + (done / layout.elements) * layout.bytes;
    if (type === 'F32') out[to + done] = view.getFloat32(block, true);
    else if (type === 'F16') out[to + done] = f16ToNumber(view.getUint16(block, true));
    else if (type === 'BF16') out[to + done] = bf16ToNumber(view.getUint16(block, true));
    else if (grouped) decodeGroup(grouped, bytes, block, out, to + done);
    else blockDecoders[type](bytes, block, out, to + done);
  }
}
