import { ExecutionError, unscoped, type Backend, type Tensor } from '@filigree/core-tensor';
import type { Pattern } from './mask.js';
import { planTensor } from './ops/planned-attention.js';
import { lowerMask } from './lower-mask.js';
import { stepSizes } from './select/step.js';
import type { SelectContext } from './selector.js';

/** A plan on the device, and how many cells of all heads it shows. */
export interface UploadedPlan {
  readonly plan: Tensor;
  readonly cells: number;
}

/** Shapes of which plans are kept: those of one step, whatever patterns its layers and phases have. */
const kept = 8;

/** Plans of patterns by shape, so that the layers of a step share them. Whoever makes one disposes it. */
export class PlanCache {
  readonly #plans = new Map<Pattern, Map<string, UploadedPlan>>();

  /** The plan for a shape, made when it is not there; the cache keeps it. */
  get(pattern: Pattern, key: string, make: () => UploadedPlan): UploadedPlan {
    const plans = this.#plans.get(pattern) ?? new Map<string, UploadedPlan>();
    this.#plans.set(pattern, plans);
    const found = plans.get(key);
    if (found) return found;
    const made = unscoped(make);
    plans.set(key, made);
    for (const [oldest, { plan }] of plans) {
      if (plans.size <= kept) break;
      plan.dispose();
      plans.delete(oldest);
    }
    return made;
  }

  dispose(): void {
    for (const plans of this.#plans.values()) for (const { plan } of plans.values()) plan.dispose();
    this.#plans.clear();
  }
}

/**
 * The plan of a pattern for a step.
 * @throws ExecutionError when the host does not know the step's lengths.
 */
export function patternPlan(context: SelectContext, pattern: Pattern, plans?: PlanCache): UploadedPlan {
  const { lenQ, lenK, promptEnd, kvHeadOf } = context;
  if (lenK === undefined) throw new ExecutionError('attendByPolicy: a pattern needs lenK, which a recorded step does not know');
  if (context.kvMap && !kvHeadOf)
    throw new ExecutionError('attendByPolicy: a pattern of heads with a kvMap needs kvHeadOf, the same map on the host');
  const { heads, batch } = stepSizes(context);
  const make = (): UploadedPlan => uploaded(context.q.backend, pattern, { batch, heads, lenQ, lenK, promptEnd }, kvHeadOf);
  return plans ? plans.get(pattern, JSON.stringify([heads, lenQ, lenK, promptEnd, kvHeadOf]), make) : make();
}

function uploaded(
  backend: Backend,
  pattern: Pattern,
  shape: Parameters<Pattern>[0],
  kvHeadOf: readonly number[] | undefined,
): UploadedPlan {
  const plan = lowerMask(pattern(shape));
  const kvMap = kvHeadOf && Int32Array.from(kvHeadOf);
  return { plan: planTensor(backend, { ...plan, kvMap }), cells: plan.stats.cells };
}
