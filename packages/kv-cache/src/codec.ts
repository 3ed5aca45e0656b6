import { byteSize, type KvCodec } from '@filigree/core-tensor';

/** Element types of raw pages. */
export type RawKvType = 'f32' | 'f16';

/** Rows stored as they are, in f32 or f16. */
export function rawCodec(dtype: RawKvType): KvCodec {
  return { id: `raw-${dtype}`, unit: 1, bytesPerEntry: (headDim) => headDim * byteSize(dtype) };
}
