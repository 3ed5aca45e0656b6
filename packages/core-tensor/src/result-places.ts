import type { BufferHandle } from './backend.js';
import type { DType } from './dtype.js';
import { ExecutionError } from './errors.js';
import type { Shape } from './shape.js';
import type { Storage } from './storage.js';
import { Tensor } from './tensor.js';

/** Where a tensor of a recorded step's result lies. */
class Place {
  constructor(
    readonly handle: BufferHandle,
    readonly shape: Shape,
    readonly dtype: DType,
    readonly offset: number,
  ) {}
}

/** @internal What a recorded step returned, with the places of its tensors in place of them: for backends that keep recordings. */
export class ResultPlaces {
  readonly #out: unknown;
  /** Buffers that tensors of the result lie in. */
  readonly handles: ReadonlySet<BufferHandle>;

  constructor(result: unknown) {
    const handles = new Set<BufferHandle>();
    this.#out = mapped(result, (value) => {
      if (!(value instanceof Tensor)) return undefined;
      handles.add(value.storage.handle);
      return new Place(value.storage.handle, value.shape, value.dtype, value.offset);
    });
    this.handles = handles;
  }

  /** The same arrays and plain objects around tensors of their own; takes over one reference to each storage of `made`. */
  tensors(made: ReadonlyMap<BufferHandle, Storage>): unknown {
    const used = new Set<Storage>();
    return mapped(this.#out, (value) => {
      if (!(value instanceof Place)) return undefined;
      const storage = made.get(value.handle);
      if (!storage) throw new ExecutionError('Recording.replay: a result of the step has no buffer');
      const first = !used.has(storage);
      used.add(storage);
      return new Tensor(first ? storage : storage.retain(), value.shape, value.dtype, value.offset);
    });
  }
}

/** The same arrays and plain objects, with what `replace` gives for a value in its place. */
function mapped(value: unknown, replace: (value: unknown) => object | undefined): unknown {
  const replaced = replace(value);
  if (replaced) return replaced;
  if (Array.isArray(value)) return value.map((item) => mapped(item, replace));
  if (typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype)
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mapped(item, replace)]));
  return value;
}
