import { gatedActivation, type GateKind, type Linear, type Tensor } from '@filigree/core-tensor';
import { gluOp } from './ops/glu.js';
import { qkvOp } from './ops/qkv.js';
import { QuantizedLinear, type LinearOperands } from './quantized-linear.js';

/** The weights of several layers over one input, where one native op takes them together. */
interface Fused {
  readonly operands: readonly LinearOperands[];
  readonly form: Omit<Parameters<typeof qkvOp>[1], 'kind'>;
}

function fuse(linears: readonly Linear[]): Fused | undefined {
  const operands = linears.map((linear) =>
    linear instanceof QuantizedLinear && linear.fusible ? linear.operands() : undefined,
  );
  const [first] = operands;
  const fits = (some: LinearOperands | undefined): some is LinearOperands =>
    some !== undefined &&
    some.weights.backend.kind === 'native' &&
    some.layout === first?.layout &&
    some.activations === first.activations &&
    some.inFeatures === first.inFeatures;
  if (!first || !operands.every(fits)) return undefined;
  const { inFeatures, layout, activations } = first;
  const types = operands.map(({ type }) => type);
  const outFeatures = operands.map((some) => some.outFeatures);
  return { operands, form: { types, outFeatures, inFeatures, layout, activations } };
}

/**
 * Queries, keys and values of x [T, inFeatures]: [T, outFeatures] of each layer. One pass over x where the backend has it, the same bits
 * as three `forward`.
 */
export function projectQkv(
  x: Tensor,
  layers: { query: Linear; key: Linear; value: Linear },
): { q: Tensor; k: Tensor; v: Tensor } {
  const { query, key, value } = layers;
  const fused = fuse([query, key, value]);
  if (!fused) return { q: query.forward(x), k: key.forward(x), v: value.forward(x) };
  const [q, k, v] = fused.operands;
  const biases = { queryBias: q.bias, keyBias: k.bias, valueBias: v.bias };
  return qkvOp({ x, query: q.weights, key: k.weights, value: v.weights, ...biases }, fused.form);
}

/** f(gate(x)) · up(x), [T, outFeatures]: one pass over x where the backend has it, the same bits as two `forward` and an activation. */
export function gatedLinear(x: Tensor, layers: { gate: Linear; up: Linear }, kind: GateKind): Tensor {
  const fused = fuse([layers.gate, layers.up]);
  if (!fused) return gatedActivation(layers.gate.forward(x), layers.up.forward(x), kind);
  const [gate, up] = fused.operands;
  return gluOp({ x, gate: gate.weights, up: up.weights, gateBias: gate.bias, upBias: up.bias }, { ...fused.form, kind }).h;
}
