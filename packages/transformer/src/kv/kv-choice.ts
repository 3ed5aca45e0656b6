import { OptionError } from '@filigree/core-tensor';
import { kvMethod, type Compressor } from '@filigree/kv-cache';
import type { MethodOptions } from '@filigree/sparse-attention';

/** A method of the catalogue with options that differ from its defaults, or a compressor of one's own. */
export type KvChoice = { readonly method: string; readonly options?: MethodOptions | undefined } | Compressor;

/** @throws OptionError naming an unknown method or option. */
export function kvCompressor(choice: KvChoice, caller: string): Compressor {
  if (!('method' in choice)) return choice;
  try {
    return kvMethod(choice.method).create(choice.options);
  } catch (error) {
    if (error instanceof OptionError) throw new OptionError(`${caller}: kv: ${error.message}`, { cause: error });
    throw error;
  }
}
