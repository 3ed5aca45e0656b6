import type { Tensor } from '../tensor.js';

/** Called around every optimizer step: sparsity masks, pruning schedules and straight-through estimators are train hooks. */
export interface TrainHook {
  readonly name: string;
  beforeForward?(step: number, parameters: ReadonlyMap<string, Tensor>): void;
  afterBackward?(step: number, gradients: ReadonlyMap<string, Tensor>): void;
  afterStep?(step: number, parameters: ReadonlyMap<string, Tensor>): void;
}
