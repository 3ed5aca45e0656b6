import type { Tensor } from '../tensor.js';

/** The contract by which weights of every kind (dense, quantised, sparse, low-rank) plug into models. */
export interface Linear {
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Bytes the weights take on their backend, execution copies included. */
  readonly byteLength: number;
  /** x [T, inFeatures] f32 → [T, outFeatures] f32; `residual` of the result's shape is added in the same pass. */
  forward(x: Tensor, residual?: Tensor): Tensor;
  /** One line for people: kind, shape, bits. */
  describe(): string;
  dispose(): void;
}
