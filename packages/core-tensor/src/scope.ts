import type { Tensor } from './tensor.js';

let current: Set<Tensor> | undefined;

/** Called by every new tensor; a tensor made inside `scope` belongs to it. Returns whether there is a scope. */
export function registerInScope(tensor: Tensor): boolean {
  current?.add(tensor);
  return current !== undefined;
}

/**
 * Runs `fn` and disposes every tensor made inside except those reachable from what it returns (a tensor, or arrays and plain
 * objects of tensors). Scopes nest; what an inner scope returns belongs to the outer one. `fn` is synchronous: tensors made
 * after an `await` belong to nobody.
 */
export function scope<T>(fn: () => T): T {
  const outer = current;
  const mine = new Set<Tensor>();
  current = mine;
  let kept: ReadonlySet<unknown> = new Set();
  try {
    const result = fn();
    kept = collect(result, new Set());
    return result;
  } finally {
    current = outer;
    for (const tensor of mine) {
      if (!kept.has(tensor)) tensor.dispose();
      else if (outer) outer.add(tensor);
      else tensor.watch();
    }
  }
}

/** Runs `fn` outside of every scope: what is made inside belongs to whoever keeps it. */
export function unscoped<T>(fn: () => T): T {
  const outer = current;
  current = undefined;
  try {
    return fn();
  } finally {
    current = outer;
  }
}

/** Takes `tensor` out of the scope it was made in; the caller disposes it. */
export function keep<T extends Tensor>(tensor: T): T {
  if (current?.delete(tensor)) tensor.watch();
  return tensor;
}

function collect(value: unknown, found: Set<unknown>): Set<unknown> {
  if (typeof value !== 'object' || value === null || found.has(value)) return found;
  found.add(value);
  if (isTensor(value)) return found;
  if (Array.isArray(value)) {
    for (const item of value as unknown[]) collect(item, found);
  } else if (Object.getPrototypeOf(value) === Object.prototype) {
    for (const item of Object.values(value)) collect(item, found);
  }
  return found;
}

function isTensor(value: object): value is Tensor {
  return 'storage' in value && 'dtype' in value;
}
