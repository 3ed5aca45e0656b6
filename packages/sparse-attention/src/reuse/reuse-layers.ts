import { ExecutionError } from '@filigree/core-tensor';
import { checkIntegers } from '../method.js';
import type { Selector } from '../selector.js';
import { expectSync, listParts } from './list-parts.js';

export interface ReuseLayersOptions {
  /** Layers that select. Those before the first of them are dense. */
  readonly select: readonly number[];
  /** Whether these layers see all keys, as they have looked at them anyway; default false: they see what they selected. */
  readonly denseSelect?: boolean | undefined;
}

/**
 * Some layers select for those that follow: a layer between two of them sees the keys that the one before chose, at the same positions of its own cache.
 * Where a layer had too few keys to choose from, those after it are dense too.
 *
 * Lists are kept for the step only, so that steps are recorded as those of the selector itself.
 *
 * @throws OptionError when a layer is no non-negative integer, or the selector waits for the host or answers with plans; from `select`, ExecutionError where
 *   the context has no memory.
 */
export function reuseLayers<S>(
  selector: Selector<S>,
  { select: layers, denseSelect = false }: ReuseLayersOptions,
): Selector<S> {
  for (const layer of layers) checkIntegers('reuseLayers', { select: layer });
  expectSync('reuseLayers', selector);
  const first = Math.min(...layers);
  return {
    ...selector,
    select(context, state) {
      const { layer, memory } = context;
      if (layers.includes(layer)) {
        const selection = selector.select(context, state);
        if (selection === 'dense') memory?.step.clear();
        else memory?.step.keep('reuseLayers', { parts: listParts('reuseLayers', selection), lenK: context.lenK });
        return denseSelect ? 'dense' : selection;
      }
      if (layer < first) return 'dense';
      if (!memory)
        throw new ExecutionError(`reuseLayers: layer ${layer} uses what another selected; the context has no memory`);
      const kept = memory.step.get('reuseLayers');
      return kept ? { parts: kept.parts } : 'dense';
    },
  };
}
