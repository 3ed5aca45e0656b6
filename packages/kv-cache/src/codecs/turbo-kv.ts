import { OptionError } from '@filigree/core-tensor';
import { codedCodec, type CodedKvCodec } from './coded-codec.js';

export interface TurboOptions {
  /** Of a code. */
  readonly bits?: 2 | 4;
  /** Of the signs of the rotation, 32 bits. */
  readonly seed?: number;
}

/**
 * TurboQuant: rows are rotated at random, so that their numbers are about normally distributed whatever the rows, and each is stored as the nearest level of
 * that distribution: bits + 16/D bits a number, without calibration and without groups. Queries are rotated like keys and sums of values are rotated
 * back, so that no entry is. Head dims must be powers of two.
 *
 * The rotation is a Walsh–Hadamard matrix behind random signs. This is the paper's codec of least squared error, for keys as for values: products of queries
 * with keys are short by the share of the energy that levels lose, 1 % at 4 bits and 12 % at 2. The paper's other codec, whose products are right on average
 * for a bit more of noise, is not here; levels that are longer by that share make them so too, and moved predictions further (SmolLM2 135M, 2 bits).
 *
 * Zandieh et al., "TurboQuant: Online Vector Quantization with Near-optimal Distortion Rate", arXiv:2504.19874.
 */
export function turboKv({ bits = 4, seed = 0 }: TurboOptions = {}): CodedKvCodec {
  if ((bits as number) !== 2 && (bits as number) !== 4) throw new OptionError(`turboKv: bits is ${bits}, it must be 2 or 4`);
  if (!Number.isInteger(seed) || seed < 0 || seed > 0xffffffff)
    throw new OptionError(`turboKv: seed is ${seed}, it must be a whole number of 32 bits`);
  return codedCodec(bits === 4 ? 'turbo4' : 'turbo2', seed);
}
