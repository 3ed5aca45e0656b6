import { checkIntegers } from '../method.js';
import type { Selector } from '../selector.js';
import { expectSync, follows, listParts, withNewest } from './list-parts.js';

/**
 * Selects in every n-th decode step. The steps between see the same keys and those that came since, so up to n − 1 keys more than the selector's budget.
 * A sequence that was cut back, or is another's fork, selects anew. What a step does depends on its number: such steps are not recorded.
 *
 * @throws OptionError when n is no positive integer, or the selector waits for the host or answers with plans.
 */
export function reuseSteps<S>(selector: Selector<S>, n: number): Selector<S> {
  checkIntegers('reuseSteps', { n }, 1);
  expectSync('reuseSteps', selector);
  if (n === 1) return selector;
  return {
    ...selector,
    needsLengths: true,
    select(context, state) {
      const { memory, layer, lenK } = context;
      const name = `reuseSteps ${layer}`;
      const kept = memory?.sequence.get(name);
      if (kept && follows(context, kept, n - 1)) return withNewest(context, kept);
      const selection = selector.select(context, state);
      if (selection !== 'dense') memory?.sequence.keep(name, { parts: listParts('reuseSteps', selection), lenK });
      return selection;
    },
  };
}
