import { OptionError } from '@filigree/core-tensor';

/** The bytes of a tensor to write: at once, or a function that yields them in pieces, called once, when their turn comes. */
export type TensorData = Uint8Array | (() => Iterable<Uint8Array> | AsyncIterable<Uint8Array>);

/** Yields the pieces, and fails unless they are `byteLength` bytes in total. */
export async function* tensorPieces(
  caller: string,
  name: string,
  data: TensorData,
  byteLength: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  let total = 0;
  for await (const piece of data instanceof Uint8Array ? [data] : data()) {
    total += piece.byteLength;
    if (total > byteLength) break;
    yield piece;
  }
  if (total !== byteLength)
    throw new OptionError(
      `${caller}: the data of tensor "${name}" is ${total > byteLength ? 'more than' : `${total} bytes, not`} the ${byteLength} bytes its shape and type take`,
    );
}
