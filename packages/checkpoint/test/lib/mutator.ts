import { Random } from '@filigree/core-tensor';

/** Numbers at which readers go wrong. */
const edges = [0n, 1n, 2n, 3n, 4n, 5n, 7n, 8n, 31n, 32n, 33n, 64n, 127n, 128n, 255n, 256n, 65535n, 65536n, 2n ** 24n].concat(
  [31n, 32n, 48n, 53n, 62n, 63n, 64n].flatMap((power) => [2n ** power - 1n, 2n ** power, 2n ** power + 1n]),
);

/** Seeded choices, and changes to bytes that know nothing of the format. */
export class Mutator {
  readonly #random: Random;

  constructor(seed: number) {
    this.#random = new Random(seed);
  }

  /** 0 to `below` - 1. */
  int(below: number): number {
    return Math.floor(this.#random.nextFloat() * below);
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.int(choices.length)];
  }

  /** A number at an edge: of the types, of the file, or of the value that stands there. */
  edge(value: bigint, fileSize: number): bigint {
    const near = [
      value - 1n,
      value + 1n,
      value * 2n,
      value + 32n,
      -value,
      BigInt(fileSize),
      BigInt(fileSize) - 1n,
      BigInt(fileSize) + 1n,
    ];
    return BigInt.asUintN(64, this.pick([...edges, ...near, BigInt(this.int(2 ** 31))]));
  }

  /** A piece of `length` bytes at most, and where it lies. */
  span(length: number): { start: number; end: number } {
    const start = this.int(length + 1);
    return { start, end: Math.min(length, start + this.int(40)) };
  }

  truncate(bytes: Uint8Array): Uint8Array {
    return bytes.slice(0, this.int(bytes.byteLength));
  }

  flipBits(bytes: Uint8Array, within = bytes.byteLength): Uint8Array {
    const changed = bytes.slice();
    for (let count = 1 + this.int(4); count > 0; count--) changed[this.int(within)] ^= 1 << this.int(8);
    return changed;
  }

  overwrite(bytes: Uint8Array, within = bytes.byteLength): Uint8Array {
    const changed = bytes.slice();
    const { start, end } = this.span(within);
    for (let at = start; at < end; at++) changed[at] = this.int(256);
    return changed;
  }

  /** Takes a piece out, puts one in again elsewhere, or puts in bytes of chance. */
  splice(bytes: Uint8Array): Uint8Array {
    const { start, end } = this.span(bytes.byteLength);
    const piece = this.pick([
      new Uint8Array(0),
      bytes.slice(start, end),
      Uint8Array.from({ length: end - start }, () => this.int(256)),
    ]);
    const at = this.int(bytes.byteLength + 1);
    const skip = this.pick([0, piece.byteLength, this.int(40)]);
    return concatBytes([bytes.slice(0, at), piece, bytes.slice(at + skip)]);
  }
}

export function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((total, { byteLength }) => total + byteLength, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.byteLength;
  }
  return all;
}
