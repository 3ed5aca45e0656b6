import { checkIntegers } from '../method.js';
import type { Selector } from '../selector.js';

/** The first layers see everything: their attention is spread out. @throws OptionError when `layers` is no non-negative integer. */
export function denseLayers<S>(selector: Selector<S>, layers: number): Selector<S> {
  checkIntegers('denseLayers', { layers });
  if (layers === 0) return selector;
  const later: Pick<Selector<S>, 'selectAsync'> = selector.selectAsync
    ? {
        selectAsync: async (context, state) =>
          context.layer < layers ? 'dense' : ((await selector.selectAsync?.(context, state)) ?? 'dense'),
      }
    : {};
  return {
    ...selector,
    ...later,
    select: (context, state) => (context.layer < layers ? 'dense' : selector.select(context, state)),
  };
}
