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
 * The rotation is a Walsh–Hadamard matrix behind random signs. Levels of keys are those of values times 1 / (1 − their error), which makes products with queries
 * right on average; the paper has a residual of one bit for that, which is not here.
 *
 * Zandieh et al., "TurboQuant: Online Vector Quantization with Near-optimal Distortion Rate", arXiv:2504.19874.
 */
export function turboKv({ bits = 4, seed = 0 }: TurboOptions = {}): CodedKvCodec {
  if ((bits as number) !== 2 && (bits as number) !== 4) throw new OptionError(`turboKv: bits is ${bits}, it must be 2 or 4`);
  if (!Number.isInteger(seed) || seed < 0 || seed > 0xffffffff)
    throw new OptionError(`turboKv: seed is ${seed}, it must be a whole number of 32 bits`);
  return codedCodec(bits === 4 ? 'turbo4' : 'turbo2', seed);
}
