import { createNativeBackend } from '@filigree/backend-native';
import {
  createReferenceBackend,
  fromArray,
  seededTensor,
  type Backend,
  type HostTensor,
  type Tensor,
} from '@filigree/core-tensor';
import { gatedLinear, ggufLayout, projectQkv, QuantizedLinear, seededBlocks } from '@filigree/quantization';
import { expect, it } from 'vitest';

const [inFeatures, outFeatures, tokens] = [64, 21, 3];

function on(backend: Backend): {
  linear: (seed: number, factor?: number) => QuantizedLinear;
  x: Tensor;
  upload: (host: HostTensor) => Tensor;
} {
  const upload = ({ data, shape, dtype }: HostTensor): Tensor => fromArray(backend, data, shape, dtype);
  const linear = (seed: number, factor?: number): QuantizedLinear =>
    new QuantizedLinear(upload(seededBlocks(seed, ggufLayout('NVFP4').id, outFeatures, inFeatures)), {
      type: 'NVFP4',
      inFeatures,
      outFeatures,
      bias: upload(seededTensor(seed, [outFeatures])),
      scale: factor === undefined ? undefined : fromArray(backend, [factor], [1]),
    });
  return { linear, x: upload(seededTensor(9, [tokens, inFeatures])), upload };
}

it.each([
  ['reference', () => createReferenceBackend()],
  ['native', () => createNativeBackend({ threads: 2 })],
] as const)('a factor of the tensor multiplies the weights and neither bias nor residual, on %s', async (_, create) => {
  const backend = create();
  const { linear, x, upload } = on(backend);
  const residual = upload(seededTensor(5, [tokens, outFeatures]));
  const [plain, scaled] = [linear(1), linear(1, 0.5)];
  const bias = seededTensor(1, [outFeatures]).data;
  const rest = await residual.readNumbers();
  const [a, b] = [await plain.forward(x).readNumbers(), await scaled.forward(x, residual).readNumbers()];
  for (let index = 0; index < a.length; index++) {
    const shift = bias[index % outFeatures];
    expect(b[index]).toBeCloseTo((a[index] - shift) / 2 + shift + rest[index], 4);
  }
  const { q, v } = projectQkv(x, { query: scaled, key: plain, value: plain });
  expect(await q.readNumbers()).toEqual(await scaled.forward(x).readNumbers());
  expect(await v.readNumbers()).toEqual(a);
  const gated = await gatedLinear(x, { gate: plain, up: scaled }, 'relu').readNumbers();
  const up = await scaled.forward(x).readNumbers();
  for (let index = 0; index < a.length; index++) expect(gated[index]).toBeCloseTo(Math.max(0, a[index]) * up[index], 3);
  for (const each of [plain, scaled]) each.dispose();
  backend.dispose();
});
