import { OptionError } from '@filigree/core-tensor';
import { codedCodec, type CodedKvCodec } from './coded-codec.js';

export interface KiviOptions {
  /** Of a code. */
  readonly bits?: 2 | 4;
  /** Numbers that share a scale and a zero: entries of a channel of keys, channels of an entry of values. */
  readonly group?: 32;
}

/**
 * KIVI: keys per channel, values per entry, asymmetric in groups of 32: bits + 1 bits a number with the scale and the zero of the group.
 *
 * Outliers of keys are a matter of channels, so a channel's own scale keeps them from the others; values have none, and an entry's own scale keeps their
 * error to the entries that attention looks at.
 *
 * Liu et al., "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", arXiv:2402.02750.
 */
export function kiviKv({ bits = 2, group = 32 }: KiviOptions = {}): CodedKvCodec {
  if ((bits as number) !== 2 && (bits as number) !== 4) throw new OptionError(`kiviKv: bits is ${bits}, it must be 2 or 4`);
  if ((group as number) !== 32) throw new OptionError(`kiviKv: group is ${group}, it must be 32`);
  return codedCodec(bits === 4 ? 'kivi4' : 'kivi2');
}
