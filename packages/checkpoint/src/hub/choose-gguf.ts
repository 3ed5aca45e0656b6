import { AmbiguousModelError } from '../errors.js';
import { ggufShardNames } from '../gguf/shard-names.js';

/** In this order when a repository has one file of each: small, and close to the original. */
const preferred = ['Q4_K_M', 'Q4_1', 'Q4_0', 'Q8_0'];

/** Vision projectors and importance matrices, which are no models of their own. */
const auxiliary = /(?:^|[/.-])(?:mmproj|imatrix)/i;

/**
 * Chooses the model among the files of a repository: the only one, or the only one of `quantization`, or of the first of
 * a few usual quantizations that occurs. Of a model in several files it is the first.
 *
 * @param model for messages
 * @returns undefined when no file fits
 */
export function chooseGguf(model: string, files: readonly string[], quantization?: string): string | undefined {
  const all = files.filter((file) => /\.gguf$/i.test(file) && !auxiliary.test(file));
  const models = all.filter((file) => ggufShardNames(file)[0] === file);
  const named = (type: string) => models.filter((file) => mentions(file, type));
  const candidates = quantization === undefined ? models : named(quantization);
  if (candidates.length <= 1) return candidates.at(0);
  const choice = quantization === undefined ? preferred.map(named).find((found) => found.length > 0) : undefined;
  if (choice?.length === 1) return choice[0];
  throw new AmbiguousModelError(model, choice ?? candidates);
}

/** Whether the name holds the type as a word of its own: "Q4_K" is not in "Q4_K_M". */
function mentions(file: string, type: string): boolean {
  const literal = type.replace(/[^\w]/g, '\\$&');
  return new RegExp(`(?<![A-Za-z0-9])${literal}(?![A-Za-z0-9_])`, 'i').test(file);
}
