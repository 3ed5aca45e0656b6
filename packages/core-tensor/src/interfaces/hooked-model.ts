import type { Tensor } from '../tensor.js';

/** Reads an activation: called with the tensor at the hook; it is disposed after the call unless retained with `view`. */
export type ReadHook = (activation: Tensor) => void;
/** Replaces an activation; must return a tensor of the same shape and dtype. */
export type ReplaceHook = (activation: Tensor) => Tensor;

export interface HookedRunOptions {
  readonly read?: Readonly<Record<string, ReadHook>>;
  readonly replace?: Readonly<Record<string, ReplaceHook>>;
  readonly signal?: AbortSignal | undefined;
  /** Rows of logits that are wanted; default `all`. A long text has a great many. */
  readonly logits?: 'all' | 'last' | undefined;
}

/** A model whose named activations can be read or replaced; what calibrators, pruners and SAE sources take. */
export interface HookedModel {
  /** Names of every hook point, in the order in which they occur. */
  hooks(): string[];
  /** Teacher-forced run over token ids → logits [tokens, vocabulary], or [1, vocabulary] when only the last are wanted. */
  run(tokens: ArrayLike<number>, options?: HookedRunOptions): Promise<Tensor>;
}
