import { OptionError } from '@filigree/core-tensor';
import type { SelectContext, Selection, SelectionPart, Selector } from '../selector.js';
import { constant } from '../select/step.js';
import type { KeptSelection, ListPart } from './selection-memory.js';

/** The lists of a selection. @throws OptionError when it has plans, which count from the queries of their own step. */
export function listParts(combinator: string, { parts }: Exclude<Selection, 'dense'>): readonly ListPart[] {
  return parts.map((part: SelectionPart) => {
    if ('indices' in part) return part;
    throw new OptionError(`${combinator}: the selector answers with a plan, only lists of keys can be used again`);
  });
}

/** @throws OptionError when the selector waits for the host, which the combinator would leave out. */
export function expectSync<S>(combinator: string, { selectAsync }: Pick<Selector<S>, 'selectAsync'>): void {
  if (selectAsync) throw new OptionError(`${combinator}: the selector waits for the host; only others can be used again`);
}

/** Whether a selection of an earlier step was made by one token of each element, at most `most` tokens ago. */
export function follows({ lenQ, lenK }: SelectContext, kept: KeptSelection, most: number): boolean {
  const { lenK: before } = kept;
  if (!lenK || before?.length !== lenK.length || lenQ.some((count) => count !== 1)) return false;
  return lenK.every((length, element) => length - before[element] >= 1 && length - before[element] <= most);
}

/** A kept selection and the keys that came since. */
export function withNewest(context: SelectContext, { parts, lenK: before = [] }: KeptSelection): Selection {
  const { lenK = [] } = context;
  const counts = lenK.map((length, element) => length - before[element]);
  const slots = Math.max(0, ...counts);
  const keys = counts.flatMap((count, element) =>
    Array.from({ length: slots }, (_, slot) => (slot < count ? before[element] + slot : -1)),
  );
  const batch = lenK.length;
  const newest = {
    indices: constant(context, keys, [batch, 1, 1, slots], 'i32'),
    cells: constant(context, counts, [batch, 1, 1]),
  };
  return { parts: [...parts, newest] };
}
