import { createReferenceBackend, seededTensor, type OpCase } from '@filigree/core-tensor';
import { ggufLayout, matmulOp, seededBlocks } from '@filigree/quantization';
import { difference, runCase, webGpuBackends } from '@filigree/testing';
import { expect, it } from 'vitest';

// So long that all invocations of a workgroup share a row, beyond the subgroups of any device; generated cases are shorter.
const [rows, inFeatures] = [5, 4096];

function longCase(tokens: number, activations: 'none' | 'q8-32'): OpCase {
  const { id } = ggufLayout('Q4_0');
  return {
    inputs: { x: seededTensor(1, [tokens, inFeatures]), weights: seededBlocks(2, id, rows, inFeatures) },
    attributes: { type: id, outFeatures: rows, inFeatures, layout: 'file', activations },
  };
}

it.each(
  webGpuBackends()
    .filter(({ name }) => name !== 'webgpu/tiny')
    .map((under) => [under.name, under] as const),
)('a row that a whole workgroup shares is summed right on %s', async (_, under) => {
  const backend = await under.create([matmulOp]);
  const reference = createReferenceBackend();
  for (const generated of [longCase(1, 'q8-32'), longCase(3, 'none')]) {
    const found = await runCase(backend, matmulOp, generated);
    expect(difference(matmulOp, generated, found, await runCase(reference, matmulOp, generated))).toBeUndefined();
  }
  backend.dispose();
});
