import type { Tensor } from '@filigree/core-tensor';
import type { PagePool } from '../page-pool.js';

/** Keys and values of a page over all layers, as bytes. The copy is in the queue when the call returns: what is done to the page afterwards is not seen. */
export async function readPage(pool: PagePool, page: number): Promise<Uint8Array> {
  const parts = [...pool.keys, ...pool.values].map((tensor) => {
    const { at, length } = place(tensor, page);
    return pool.backend.read(tensor.storage, at, length);
  });
  const bytes = new Uint8Array(pool.pageBytes);
  let at = 0;
  for (const part of await Promise.all(parts)) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Puts what {@link readPage} gave into a page. */
export function writePage(pool: PagePool, page: number, bytes: Uint8Array): void {
  let from = 0;
  for (const tensor of [...pool.keys, ...pool.values]) {
    const { at, length } = place(tensor, page);
    pool.backend.write(tensor.storage, at, bytes.subarray(from, from + length));
    from += length;
  }
}

function place(tensor: Tensor, page: number): { readonly at: number; readonly length: number } {
  const length = tensor.bytes / tensor.shape[0];
  return { at: tensor.byteOffset + page * length, length };
}
