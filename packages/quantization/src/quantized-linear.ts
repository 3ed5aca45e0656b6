import {
  add,
  binary,
  DTypeError,
  gatherRows,
  keep,
  permute,
  reshape,
  scope,
  ShapeError,
  type Linear,
  type Tensor,
} from '@filigree/core-tensor';
import type { ActivationMode } from './activations.js';
import { weightLayout } from './gguf/types.js';
import { matmulOp } from './ops/matmul.js';
import type { WeightLayout } from './ops/product.js';
import { repack } from './ops/repack.js';

export interface QuantizedLinearOptions {
  /** Name of the type of the blocks: one of GGUF, or a grouped one. */
  readonly type: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly bias?: Tensor | undefined;
  /** f32 [1] that multiplies all weights, as NVFP4 files bring one per tensor. */
  readonly scale?: Tensor | undefined;
  /** i32 [inFeatures]: input k of the weights is element `inputOrder[k]` of x. */
  readonly inputOrder?: Tensor | undefined;
  /** Default `q8-32`: activations are quantised to 8 bits in groups of 32. `none` keeps f32. */
  readonly activations?: ActivationMode | undefined;
  /** Where the backend can run it, convert to the execution layout on first use (default true). */
  readonly repack?: boolean | undefined;
  /** Called once the blocks are no longer needed because the execution layout exists. */
  readonly onRepacked?: ((blocks: Tensor) => void) | undefined;
}

/** What ops need of a layer: its weights as they lie now, and how to read them. */
export interface LinearOperands {
  readonly weights: Tensor;
  readonly bias: Tensor | undefined;
  /** Type id. */
  readonly type: number;
  readonly outFeatures: number;
  readonly inFeatures: number;
  readonly layout: WeightLayout;
  readonly activations: ActivationMode;
}

/** A linear layer that runs in the file's own blocks: y = x Wᵀ + bias. Owns `blocks`, `bias`, `scale` and `inputOrder`. */
export class QuantizedLinear implements Linear {
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly type: string;
  readonly #options: QuantizedLinearOptions;
  #weights: Tensor;
  #layout: WeightLayout = 'file';

  /** @param blocks u8 [outFeatures, rowBytes]. */
  constructor(blocks: Tensor, options: QuantizedLinearOptions) {
    const { inFeatures, outFeatures, type } = options;
    if (blocks.dtype !== 'u8') throw new DTypeError(`QuantizedLinear: blocks are ${blocks.dtype}, they must be u8`);
    if (blocks.shape[0] !== outFeatures)
      throw new ShapeError(`QuantizedLinear: ${blocks.shape[0]} rows of blocks for ${outFeatures} outputs`);
    this.inFeatures = inFeatures;
    this.outFeatures = outFeatures;
    this.type = type;
    this.#weights = blocks;
    this.#options = options;
  }

  get byteLength(): number {
    return this.#weights.bytes + (this.#options.bias?.bytes ?? 0);
  }

  /** True once the weights are in the execution layout. */
  get repacked(): boolean {
    return this.#layout === 'tiles';
  }

  /** Converts to the execution layout now rather than on first use, where the backend has one. */
  prepare(): void {
    if (this.#layout === 'file' && this.#repacks()) this.#repack();
  }

  forward(x: Tensor, residual?: Tensor): Tensor {
    const { weights, bias, ...attributes } = this.operands();
    const { scale, inputOrder } = this.#options;
    if (!scale && !inputOrder) return matmulOp({ x, weights, bias, residual }, attributes).y;
    return scope(() => {
      const ordered = inputOrder ? gatherColumns(x, inputOrder) : x;
      if (!scale) return matmulOp({ x: ordered, weights, bias, residual }, attributes).y;
      const product = binary(matmulOp({ x: ordered, weights }, attributes).y, scale, 'mul');
      const biased = bias ? add(product, bias) : product;
      return residual ? add(biased, residual) : biased;
    });
  }

  /** Whether ops may take {@link operands} as all there is: nothing happens to x before them, and nothing is multiplied afterwards. */
  get fusible(): boolean {
    return this.#options.scale === undefined && this.#options.inputOrder === undefined;
  }

  /** For ops that take the weights of several layers; converted to the execution layout first, where the backend has one. */
  operands(): LinearOperands {
    this.prepare();
    const { bias, activations = 'q8-32' } = this.#options;
    return {
      weights: this.#weights,
      bias,
      type: weightLayout(this.type).id,
      outFeatures: this.outFeatures,
      inFeatures: this.inFeatures,
      layout: this.#layout,
      activations,
    };
  }

  describe(): string {
    return `${this.type} ${this.outFeatures} × ${this.inFeatures}${this.#options.bias ? ' + bias' : ''}`;
  }

  dispose(): void {
    this.#weights.dispose();
    this.#options.bias?.dispose();
    this.#options.scale?.dispose();
    this.#options.inputOrder?.dispose();
  }

  #repacks(): boolean {
    const { repack: wanted = true } = this.#options;
    return wanted && this.#weights.backend.kind === 'native';
  }

  #repack(): void {
    const blocks = this.#weights;
    // A caller's scope around `forward` must not take the weights away with its activations.
    this.#weights = keep(repack(blocks, this.type, this.inFeatures));
    this.#layout = 'tiles';
    this.#options.onRepacked?.(blocks);
    blocks.dispose();
  }
}

/** Columns of x [T, K] in another order. */
function gatherColumns(x: Tensor, order: Tensor): Tensor {
  const [tokens, columns] = x.shape;
  if (tokens === 1) return reshape(gatherRows(reshape(x, [columns, 1]), order), [1, columns]);
  return permute(gatherRows(permute(x, [1, 0]), order), [1, 0]);
}
