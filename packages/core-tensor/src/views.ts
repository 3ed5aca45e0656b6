import type { Tensor } from './tensor.js';

let derived: Set<Tensor> | undefined;

/**
 * @internal Runs `fn` with a set that grows by every view that is made of one of its tensors, and by views of those: how a recording knows what of
 * a step reaches a buffer through its inputs, and what by another way.
 */
export function withViewsOf<T>(tensors: Set<Tensor>, fn: () => T): T {
  const outer = derived;
  derived = tensors;
  try {
    return fn();
  } finally {
    derived = outer;
  }
}

/** Called for every view. */
export function noteView(of: Tensor, view: Tensor): void {
  if (derived?.has(of) === true) derived.add(view);
}
