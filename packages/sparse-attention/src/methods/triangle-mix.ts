import { layerPlan, type HeadPlan } from '../head-plan.js';
import type { PlannedModel } from '../plan-file.js';
import { checkIntegers, defineMethod } from '../method.js';
import { streaming, type StreamingOptions } from './streaming.js';

const defaults = { startLayer: 16, sinks: 8, window: 512, lastRows: 100 } as const;

/**
 * TriangleMix: the first `startLayer` layers dense, the others tri-shape (sinks, window, and everything for the last queries). The defaults are its example's for
 * 32 layers, with the last rows of tri-shape.
 *
 * He et al., "TriangleMix", arXiv:2507.21526.
 */
export const triangleMixMethod = /* @__PURE__ */ defineMethod({
  id: 'triangle-mix',
  title: 'Dense layers, then tri-shape',
  paper: 'arXiv:2507.21526',
  phase: 'prefill',
  training: 'none',
  emits: 'ranges',
  options: defaults,
  policy({ startLayer, ...options }) {
    checkIntegers('triangle-mix', { startLayer });
    return { kind: 'pattern', pattern: streaming(options), fromLayer: startLayer };
  },
});

/** {@link triangleMixMethod} as a plan of a model's heads. */
export function triangleMix(model: PlannedModel, options: StreamingOptions & { readonly startLayer?: number } = {}): HeadPlan {
  const { startLayer, ...shape } = { ...defaults, ...options };
  return layerPlan(model, (layer) =>
    layer < startLayer ? { method: 'dense', options: {} } : { method: 'tri-shape', options: shape },
  );
}
