import * as core from '@filigree/core-tensor';
import * as kvCache from '@filigree/kv-cache';
import * as quantization from '@filigree/quantization';
import * as sparseAttention from '@filigree/sparse-attention';

/** Every op that has shaders. */
export const shaderOps: readonly core.AnyOp[] = [core, kvCache, quantization, sparseAttention]
  .flatMap((module) => Object.values<unknown>(module))
  .filter(core.isOp)
  .filter((op) => op.webgpu !== undefined);
