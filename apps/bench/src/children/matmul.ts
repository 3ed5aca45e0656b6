import { fromBytes, type Backend } from '@filigree/core-tensor';
import { ggufLayout, QuantizedLinear, rowBytes, seededBlocks, type ActivationMode } from '@filigree/quantization';
import { randomTensor, timeCalls, type KernelTime } from './kernel-time.js';

const inFeatures = 2048;
const outFeatures = 2048;
/** More than any last-level cache here holds, so that decoding reads memory as a model's layers do. */
const weightBytes = 160 * 2 ** 20;

/** Layers of one type, enough of them to fill `weightBytes`. */
function makeLayers(backend: Backend, type: string, activations: ActivationMode): QuantizedLinear[] {
  const width = rowBytes(type, inFeatures);
  const some = seededBlocks(7, ggufLayout(type).id, 64, inFeatures).data as Uint8Array;
  const bytes = new Uint8Array(width * outFeatures);
  for (let at = 0; at < bytes.length; at += some.length) bytes.set(some, at);
  const count = Math.ceil(weightBytes / bytes.length);
  return Array.from({ length: count }, () => {
    const blocks = fromBytes(backend, bytes, [outFeatures, width], 'u8');
    return new QuantizedLinear(blocks, { type, inFeatures, outFeatures, activations });
  });
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
