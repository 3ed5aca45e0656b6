import { fromBytes, type Backend } from '@filigree/core-tensor';
import { ggufLayout, QuantizedLinear, rowBytes, seededBlocks, type ActivationMode } from '@filigree/quantization';
import { randomTensor, timeCalls, type KernelTime } from './kernel-time.js';

const inFeatures = 2048;
const outFeatures = 2048;
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

/** Layers of one type, enough of them to fill `weightBytes`. */
function makeLayers(backend: Backend, type: string, activations: ActivationMode): QuantizedLinear[] {
  const count = Math.ceil(weightBytes / (rowBytes(type, inFeatures) * outFeatures));
  return Array.from({ length: count }, () => makeLayer(backend, type, activations, inFeatures, outFeatures));
}

/** One token (decoding), a few, and a prompt through layers of one type. */
export async function timeMatmul(
  backend: Backend,
  rounds: number,
  type: string,
  activations: ActivationMode,
): Promise<KernelTime[]> {
  const layers = makeLayers(backend, type, activations);
  const float = ['F32', 'F16', 'BF16'].includes(type) || activations === 'none';
  const times: KernelTime[] = [];
  for (const tokens of [1, 8, 512]) {
    const x = randomTensor(backend, [tokens, inFeatures], tokens);
    const calls = tokens > 8 ? Math.min(layers.length, 4) : layers.length;
    const milliseconds = await timeCalls(backend, rounds, calls, (call) => layers[call].forward(x));
    times.push({
      group: `matmul, ${tokens === 1 ? '1 token' : `${tokens} tokens`}`,
      work: `matmul ${type}${float ? '' : ' × q8'} [${tokens}, ${inFeatures}] → ${outFeatures}`,
      milliseconds,
      bytes: layers[0].byteLength + 4 * tokens * (inFeatures + outFeatures),
      operations: 2 * tokens * inFeatures * outFeatures,
      bound: tokens < 64 ? 'read' : float ? 'f32' : 'int8',
    });
    x.dispose();
  }
  for (const layer of layers) layer.dispose();
  return times;
}
