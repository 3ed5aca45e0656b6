import { OptionError, Random } from '@filigree/core-tensor';
import { checkIntegers, type CalibratedModel } from '@filigree/sparse-attention';
import type { Span } from './row-attention.js';

/** What calibrations of heads have to know of a model beside its attention; a `Model` of `@filigree/transformer` is one. */
export interface CalibratedKvModel extends CalibratedModel {
  readonly config: CalibratedModel['config'] & { readonly vocabularySize: number };
  /** Token ids of a text that stands within another. */
  tokenize(text: string, options?: { readonly addBos?: boolean | undefined }): number[];
}

/** A text with passkeys in it, all of which it repeats at its end. */
export interface RecallText {
  readonly tokens: readonly number[];
  /** Of every passkey, where it stands, and the rows that predict it at the end: as many. */
  readonly recalls: readonly { readonly needle: Span; readonly rows: Span }[];
}

/** Defaults; DuoAttention's training has 10 passkeys of 32 words in texts of up to 32,000 tokens. */
export const recallDefaults = { passkeys: 5, words: 16, seed: 1 } as const;

export interface RecallOptions {
  /** Passkeys of a text. */
  readonly passkeys: number;
  /** Words of a passkey. */
  readonly words: number;
  readonly seed: number;
}

/** Names that a spelling alphabet gives to letters: common words without an order of their own. */
const alphabet =
  'alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa quebec romeo sierra tango uniform victor whiskey xray yankee zulu';

/**
 * Puts passkeys of random words at random depths, 0.05 to 0.95, into a text, which gives up tokens at its end for them, and lets it repeat each. Same length, same
 * seed, same text.
 *
 * @throws OptionError when an option is no positive integer, or the text is too short.
 */
export function recallText(
  model: Pick<CalibratedKvModel, 'tokenize'>,
  filler: readonly number[],
  { passkeys, words, seed }: RecallOptions,
  stream = 0,
): RecallText {
  checkIntegers('recallText', { passkeys, words }, 1);
  const random = new Random(seed, stream);
  const names = alphabet.split(' ');
  const tokens = (text: string): number[] => model.tokenize(text, { addBos: false });
  const keys = Array.from({ length: passkeys }, (_, index) => ({
    asked: tokens(`\nPasskey ${index + 1} is`),
    key: Array.from({ length: words }, () => tokens(` ${names[random.nextInt(names.length)]}`)).flat(),
    depth: 0.05 + 0.9 * random.nextFloat(),
  }));
  const end = tokens('.\n');
  const planted = keys.reduce((sum, { asked, key }) => sum + asked.length + key.length + end.length, 0);
  const room = filler.length - 2 * planted;
  if (room < planted)
    throw new OptionError(
      `calibrate: a text of ${filler.length} tokens is too short for ${passkeys} passkeys of ${words} words, which take ${2 * planted}; give one of at least ${3 * planted}, or fewer passkeys or words`,
    );
  const text: number[] = [];
  const put = ({ asked, key }: (typeof keys)[number]): Span => {
    text.push(...asked, ...key, ...end);
    return { start: text.length - end.length - key.length, end: text.length - end.length };
  };
  const needles: Span[] = [];
  let taken = 0;
  for (const [index, key] of [...keys.entries()].sort(([, a], [, b]) => a.depth - b.depth)) {
    const upTo = Math.floor(key.depth * room);
    text.push(...filler.slice(taken, upTo));
    taken = upTo;
    needles[index] = put(key);
  }
  text.push(...filler.slice(taken, room));
  const recalls = keys.map((key, index) => {
    const answer = put(key);
    return { needle: needles[index], rows: { start: answer.start - 1, end: answer.end - 1 } };
  });
  return { tokens: text, recalls };
}
