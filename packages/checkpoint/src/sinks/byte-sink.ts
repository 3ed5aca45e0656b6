/** Where a writer puts its bytes, in order. Nothing is visible under the final name before `close()`. */
export interface ByteSink {
  readonly name: string;
  write(bytes: Uint8Array): Promise<void>;
  /** Makes what was written durable and visible. */
  close(): Promise<void>;
  /** Throws away what was written. */
  abort(): Promise<void>;
}
