import { OptionError, scope } from '@filigree/core-tensor';
import type { SelectContext, Selection, Selector } from '../selector.js';
import { expectSync, follows, listParts, withNewest } from './list-parts.js';

/**
 * Selects anew when the queries of a layer have turned: as long as their cosine with those of the last selection (all heads of an element as one vector) is at least `cosine`, a step sees
 * the same keys and those that came since. The host looks at the queries, so steps are not recorded and every layer waits; `select` alone always selects.
 *
 * @throws OptionError when `cosine` does not lie in −1 … 1, or the selector waits for the host or answers with plans.
 */
export function reuseWhileSimilar<S>(selector: Selector<S>, cosine: number): Selector<S> {
  if (!(cosine >= -1 && cosine <= 1)) throw new OptionError(`reuseWhileSimilar: cosine is ${cosine}, it must lie in −1 … 1`);
  expectSync('reuseWhileSimilar', selector);
  return {
    ...selector,
    needsLengths: true,
    async selectAsync(context, state) {
      const { memory, layer, lenK } = context;
      const name = `reuseWhileSimilar ${layer}`;
      const queries = (await context.q.read()) as Float32Array;
      return scope((): Selection => {
        const kept = memory?.sequence.get(name);
        const similar = kept?.note instanceof Float32Array && areSimilar(context, queries, kept.note, cosine);
        if (kept && similar && follows(context, kept, Infinity)) return withNewest(context, kept);
        const selection = selector.select(context, state);
        if (selection !== 'dense')
          memory?.sequence.keep(name, { parts: listParts('reuseWhileSimilar', selection), lenK, note: queries });
        return selection;
      });
    },
  };
}

/** Whether the queries of every element are. */
function areSimilar({ q }: SelectContext, queries: Float32Array, before: Float32Array, cosine: number): boolean {
  if (queries.length !== before.length) return false;
  const size = queries.length / q.shape[0];
  for (let start = 0; start < queries.length; start += size) {
    let [product, own, other] = [0, 0, 0];
    for (let at = start; at < start + size; at++) {
      product += queries[at] * before[at];
      own += queries[at] ** 2;
      other += before[at] ** 2;
    }
    if (!(product >= cosine * Math.sqrt(own * other))) return false;
  }
  return true;
}
