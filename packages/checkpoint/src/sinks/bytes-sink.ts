import type { ByteSink } from './byte-sink.js';

/** Collects what is written in memory. */
export function bytesSink(name = 'bytes'): ByteSink & { bytes(): Uint8Array } {
  let parts: Uint8Array[] = [];
  return {
    name,
    async write(bytes) {
      parts.push(bytes.slice());
    },
    async close() {},
    async abort() {
      parts = [];
    },
    bytes() {
      const all = new Uint8Array(parts.reduce((total, part) => total + part.byteLength, 0));
      let at = 0;
      for (const part of parts) {
        all.set(part, at);
        at += part.byteLength;
      }
      return all;
    },
  };
}
