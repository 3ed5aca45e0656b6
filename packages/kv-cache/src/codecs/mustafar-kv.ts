import { OptionError } from '@filigree/core-tensor';
import { codedCodec, type CodedKvCodec } from './coded-codec.js';
import { kvFormats, type KvFormat } from './layout.js';

export interface MustafarOptions {
  /** Share of an entry's numbers that are dropped: tenths, 0 to 0.9. */
  readonly sparsity?: number;
}

/**
 * Mustafar: of every entry and head only the largest magnitudes are kept, in half precision, with a bit a number that says which; without any, a page
 * gives back what it was made of. Keys are pruned after rotary embedding. Of 64 normally distributed numbers 0.5 drops 7.5 % of the energy, 0.7 21 %.
 *
 * By rank, not by a threshold: every entry keeps dim − ⌊sparsity · dim⌋ numbers, of equal magnitudes those of lower channels. That is a page size known
 * beforehand, 2 · kept + dim/8 bytes per entry of values and dim/16 more of keys. Keys and values may differ.
 *
 * Joo et al., "Mustafar: Promoting Unstructured Sparsity for KV Cache Pruning in LLM Inference", arXiv:2505.22913.
 */
export function mustafarKv({ sparsity = 0.5 }: MustafarOptions = {}): CodedKvCodec {
  const format = kvFormats.find((name) => name === `bitmap${String(Math.round(100 * sparsity))}`);
  if (!format || Math.abs(Math.round(10 * sparsity) - 10 * sparsity) > 1e-9)
    throw new OptionError(`mustafarKv: sparsity is ${sparsity}, it must be a tenth from 0 to 0.9`);
  return codedCodec(format satisfies KvFormat);
}
