import type { Tensor } from '../tensor.js';

/** One linear layer per expert, applied to row segments: rows offsets[e] … offsets[e+1] of the sorted list go through expert e. */
export interface GroupedLinear {
  readonly experts: number;
  /** x [T, in] f32, offsets i32 [experts + 1], rowToken i32 [rows] → [rows, out] f32. */
  forward(x: Tensor, offsets: Tensor, rowToken: Tensor): Tensor;
}
