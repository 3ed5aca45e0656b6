import { OptionError } from './errors.js';

const multiplier0 = 0xd2511f53;
const multiplier1 = 0xcd9e8d57;
const weyl0 = 0x9e3779b9;
const weyl1 = 0xbb67ae85;

/**
 * Philox4x32-10: four random words from a 128-bit counter and a 64-bit key, with no state to carry. The same (key, counter) gives
 * the same words everywhere, so streams can be split, skipped and replayed.
 *
 * Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
 */
export function philox4x32(key: readonly [number, number], counter: readonly [number, number, number, number]): Uint32Array {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(c0, multiplier0);
    const high1 = multiplyHigh(c2, multiplier1);
    const low0 = Math.imul(c0, multiplier0) >>> 0;
    const low1 = Math.imul(c2, multiplier1) >>> 0;
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + weyl0) >>> 0;
    k1 = (k1 + weyl1) >>> 0;
  }
  return Uint32Array.of(c0, c1, c2, c3);
}

/** Upper word of the product of two 32-bit words, from products of halves, which doubles hold exactly. */
function multiplyHigh(a: number, b: number): number {
  const [a0, a1, b0, b1] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = a1 * b0 + ((a0 * b0) >>> 16);
  const lower = a0 * b1 + (middle & 0xffff);
  return (a1 * b1 + (middle >>> 16) + (lower >>> 16)) >>> 0;
}

/** A seeded stream of random numbers over {@link philox4x32}; every stream number of a seed is independent of the others. */
export class Random {
  readonly #key: readonly [number, number];
  readonly #stream: readonly [number, number];
  #block = 0;
  #words = new Uint32Array(4);
  #used = 4;

  /** @param seed and `stream` are non-negative safe integers. */
  constructor(seed: number, stream = 0) {
    if (!Number.isSafeInteger(seed) || seed < 0)
      throw new OptionError(`Random: seed ${seed} is not a non-negative safe integer`);
    if (!Number.isSafeInteger(stream) || stream < 0)
      throw new OptionError(`Random: stream ${stream} is not a non-negative safe integer`);
    this.#key = [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0];
    this.#stream = [stream >>> 0, Math.floor(stream / 2 ** 32) >>> 0];
  }

  /** A uniform 32-bit word. */
  nextWord(): number {
    if (this.#used === 4) {
      this.#words = philox4x32(this.#key, [
        this.#block >>> 0,
        Math.floor(this.#block / 2 ** 32) >>> 0,
        ...this.#stream,
      ]) as Uint32Array<ArrayBuffer>;
      this.#block++;
      this.#used = 0;
    }
    return this.#words[this.#used++];
  }

  /** Uniform in [0, 1), 53 bits. */
  nextFloat(): number {
    return ((this.nextWord() >>> 5) * 2 ** 26 + (this.nextWord() >>> 6)) * 2 ** -53;
  }

  /** Standard normal, by the Box–Muller transform. */
  nextNormal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.nextFloat())) * Math.cos(2 * Math.PI * this.nextFloat());
  }

  /** Uniform integer in [0, bound), without modulo bias. */
  nextInt(bound: number): number {
    if (!Number.isInteger(bound) || bound < 1 || bound > 2 ** 32)
      throw new OptionError(`Random.nextInt: bound ${bound} is not in 1 … 2^32`);
    const limit = 2 ** 32 - (2 ** 32 % bound);
    for (;;) {
      const word = this.nextWord();
      if (word < limit) return word % bound;
    }
  }
}
