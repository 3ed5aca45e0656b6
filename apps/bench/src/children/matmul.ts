import { fromBytes, type Backend } from '@filigree/core-tensor';
import { ggufLayout, QuantizedLinear, rowBytes, seededBlocks, type ActivationMode } from '@filigree/quantization';
import { randomTensor, timeCalls, type KernelTime } from './kernel-time.js';

/** Inputs and outputs of a layer that several tokens go through. */
const square = { inputs: 2048, outputs: 2048 };
/** Least weights of a layer for one token, whose reading must not be over before the threads are at work. */
const matvecBytes = 8 * 2 ** 20;
/** More than any last-level cache here holds, so that decoding reads memory as a model's layers do. */
const weightBytes = 160 * 2 ** 20;

/** A layer of seeded weights. */
export function makeLayer(
  backend: Backend,
  type: string,
  activations: ActivationMode,
  inputs: number,
  outputs: number,
): QuantizedLinear {
  const width = rowBytes(type, inputs);
  const some = seededBlocks(7, ggufLayout(type).id, 64, inputs).data as Uint8Array;
  const bytes = new Uint8Array(width * outputs);
  for (let at = 0; at < bytes.length; at += some.length) bytes.set(some.subarray(0, bytes.length - at), at);
  const blocks = fromBytes(backend, bytes, [outputs, width], 'u8');
  return new QuantizedLinear(blocks, { type, inFeatures: inputs, outFeatures: outputs, activations });
}

interface LayerShape {
  readonly inputs: number;
  readonly outputs: number;
}

/** The shape of layers for one token: 4,096 inputs, and outputs by the thousand until they are `matvecBytes`. */
function matvecShape(type: string): LayerShape {
  const inputs = 4096;
  return { inputs, outputs: 1024 * Math.ceil(matvecBytes / (1024 * rowBytes(type, inputs))) };
}

/** One token (decoding), a few, and a prompt through layers of one type. */
export async function timeMatmul(
  backend: Backend,
  rounds: number,
  type: string,
  activations: ActivationMode,
): Promise<KernelTime[]> {
  const times: KernelTime[] = [];
  for (const [shape, lengths] of [
    [matvecShape(type), [1]],
    [square, [8, 512]],
  ] as const) {
    const bytes = rowBytes(type, shape.inputs) * shape.outputs;
    const layers = Array.from({ length: Math.ceil(weightBytes / bytes) }, () =>
      makeLayer(backend, type, activations, shape.inputs, shape.outputs),
    );
    for (const tokens of lengths) times.push(await timeLayers(backend, layers, { rounds, tokens, activations }));
    for (const layer of layers) layer.dispose();
  }
  return times;
}

async function timeLayers(
  backend: Backend,
  layers: readonly QuantizedLinear[],
  { rounds, tokens, activations }: { readonly rounds: number; readonly tokens: number; readonly activations: ActivationMode },
): Promise<KernelTime> {
  const { type, inFeatures, outFeatures, byteLength } = layers[0];
  const float = ['F32', 'F16', 'BF16'].includes(type) || activations === 'none';
  const x = randomTensor(backend, [tokens, inFeatures], tokens);
  const calls = tokens > 8 ? Math.min(layers.length, 4) : layers.length;
  const milliseconds = await timeCalls(backend, rounds, calls, (call) => layers[call].forward(x));
  x.dispose();
  return {
    group: `matmul, ${tokens === 1 ? '1 token' : `${tokens} tokens`}`,
    work: `matmul ${type}${float ? '' : ' × q8'} [${tokens}, ${inFeatures}] → ${outFeatures}`,
    milliseconds,
    bytes: byteLength + 4 * tokens * (inFeatures + outFeatures),
    operations: 2 * tokens * inFeatures * outFeatures,
    bound: tokens < 64 ? 'read' : float ? 'f32' : 'int8',
  };
}
