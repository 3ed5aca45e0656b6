import { DTypeError, type Tensor } from '@filigree/core-tensor';
import { hasBit } from './row-blocks.js';

/** The set bits of every row of u32 [..., words], on the host: for tests and for looking at a selection. */
export async function readBits(bits: Tensor): Promise<number[][]> {
  if (bits.dtype !== 'u32') throw new DTypeError(`readBits: bits is ${bits.dtype}, it takes u32`);
  const words = bits.shape[bits.shape.length - 1];
  const data = await bits.readNumbers();
  const rows = words === 0 ? bits.shape.slice(0, -1).reduce((product, size) => product * size, 1) : data.length / words;
  return Array.from({ length: rows }, (_, row) =>
    Array.from({ length: 32 * words }, (_, bit) => bit).filter((bit) => hasBit(data, row * words, bit)),
  );
}
