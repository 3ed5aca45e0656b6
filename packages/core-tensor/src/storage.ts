import type { Backend, BufferHandle } from './backend.js';
import { DisposedError, type FiligreeError } from './errors.js';

/**
 * A reference-counted backend buffer. Tensors that view the same bytes share one storage; the buffer goes back to the
 * backend, in stream order, when the last reference is released.
 */
export class Storage {
  #references = 1;
  /** Bumped by every op that mutates the buffer; autograd compares it. */
  version = 0;
  /** Set when the op that should have filled the buffer failed on the host side. */
  poison: FiligreeError | undefined;

  constructor(
    readonly backend: Backend,
    readonly handle: BufferHandle,
    readonly bytes: number,
  ) {}

  get alive(): boolean {
    return this.#references > 0;
  }

  retain(): this {
    if (this.#references === 0) throw new DisposedError('Storage: used after its last reference was released');
    this.#references++;
    return this;
  }

  release(): void {
    if (this.#references === 0) return;
    this.#references--;
    if (this.#references === 0) this.backend.release(this.handle);
  }
}
