import { resolveAttributes, type AnyOp, type TensorMeta } from '@filigree/core-tensor';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { create } from 'webgpu';
import { shaderOps } from './ops.js';

// SwiftShader has no f16: these shaders are compiled on Dawn's device without a GPU, which checks them and runs nothing. What they compute is
// tested on the user's device before they are used.
const gpu = create(['backend=null']);
let device: GPUDevice;

beforeAll(async () => {
  const adapter = await gpu.requestAdapter();
  const made = await adapter?.requestDevice({ requiredFeatures: ['shader-f16', 'subgroups'] });
  if (!made) throw new Error('the null device is missing');
  device = made;
});

afterAll(() => {
  device.destroy();
});

/** The compiler's message for one generated case, if it refuses the shader. */
async function refusal(op: AnyOp, seed: number): Promise<string | undefined> {
  if (!op.cases || !op.webgpu) throw new Error(`${op.name} has no cases or shaders`);
  const [{ inputs, attributes: given }] = fc.sample(op.cases(fc), { numRuns: 1, seed });
  const attributes = resolveAttributes(op.name, op.attributes, given);
  const io: Record<string, TensorMeta | undefined> = { ...inputs, ...op.infer(inputs, attributes) };
  const code = op.webgpu.shader(
    { f16: true, dot4: false, subgroups: op.webgpu.variants?.includes('subgroups') ?? false },
    io,
    attributes,
  );
  device.pushErrorScope('validation');
  device.createShaderModule({ code });
  return (await device.popErrorScope())?.message;
}

describe('f16 variants', () => {
  const ops = shaderOps.filter((op) => op.webgpu?.variants?.includes('f16'));

  it('exist', () => {
    expect(ops.length).toBeGreaterThanOrEqual(2);
  });

  it.each(ops.map((op) => [op.name, op] as const))('%s compiles', async (_name, op) => {
    for (let seed = 0; seed < 12; seed++) expect(await refusal(op, seed)).toBeUndefined();
  });
});
