/** How keys or values of a cache page are stored. A KvView carries its codec, so executors know how to read a page. */
export interface KvCodec {
  /** `raw-f32`, `raw-f16`, … */
  readonly id: string;
  /** Entries per encoding unit. */
  readonly unit: number;
  /** Bytes of one entry of one head. */
  bytesPerEntry(headDim: number): number;
}
