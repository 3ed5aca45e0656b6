import { createReferenceBackend, matmulOp, rmsNormOp, type AnyOp } from '@filigree/core-tensor';
import { matmulOp as quantizedMatmulOp } from '@filigree/quantization';
import { difference, runCase } from '@filigree/testing';
import type { WebGpuBackend } from '@filigree/backend-webgpu';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { testBackend } from './device.js';
import { withShader } from './with-shader.js';

let backend: WebGpuBackend;

beforeAll(async () => {
  backend = await testBackend();
});

afterAll(() => {
  backend.dispose();
});

/** What the conformance check says about an op on 20 generated cases. */
async function verdict(op: AnyOp): Promise<string | undefined> {
  const reference = createReferenceBackend();
  if (!op.cases) throw new Error(`${op.name} has no cases`);
  const result = await fc.check(
    fc.asyncProperty(op.cases(fc), async (generated) => {
      const found = difference(op, generated, await runCase(backend, op, generated), await runCase(reference, op, generated));
      if (found !== undefined) throw new Error(found);
    }),
    { numRuns: 20, seed: 1, endOnFailure: true },
  );
  return result.failed ? String(result.errorInstance) : undefined;
}

describe('the conformance check', () => {
  it.each([
    ['a factor that is off by a thousandth', rmsNormOp, '* scale *', '* scale * 1.001 *'],
    ['a sum that starts one step late', matmulOp, 'var inner = 0u', 'var inner = 1u'],
    ['a row that is never written', matmulOp, 'row + 3u, column', 'row + 2u, column'],
    [
      'results written to the wrong row',
      quantizedMatmulOp,
      'token * p.out_features + row] = sum',
      'token * p.out_features] = sum',
    ],
  ])('sees %s', async (_what, op: AnyOp, right, wrong) => {
    expect(await verdict(withShader(op, (shader) => shader.replaceAll(right, wrong)))).toMatch(
      new RegExp(`${op.name}: y element \\d+ is`),
    );
  });

  it('is content with the shaders as they are', async () => {
    expect(await verdict(rmsNormOp)).toBeUndefined();
    expect(await verdict(matmulOp)).toBeUndefined();
  });
});
