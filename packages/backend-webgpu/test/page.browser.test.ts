import { bundle, withPage } from '@filigree/testing';
import { beforeAll, describe, expect, it } from 'vitest';

/** Runs in the page: each op on the GPU and on the reference, largest difference by name. */
const page = `
import { createWebGpuBackend } from '@filigree/backend-webgpu';
import { createReferenceBackend, fromArray, gatherRows, matmul, Random, rmsNorm, rmsNormOp, softmax, softmaxOp } from '@filigree/core-tensor';
import { ggufLayout, matmulOp, seededBlocks } from '@filigree/quantization';

const random = new Random(7);
const values = (count) => Float32Array.from({ length: count }, () => random.nextNormal());

const x = values(5 * 96);
const q8 = ggufLayout('Q8_0').id;
const weights = seededBlocks(7, q8, 40, 96);
const ops = {
  'rms-norm': (backend) => rmsNorm(fromArray(backend, x, [5, 96]), fromArray(backend, x.subarray(0, 96), [96])),
  softmax: (backend) => softmax(fromArray(backend, x, [5, 96])),
  matmul: (backend) => matmul(fromArray(backend, x, [5, 96]), fromArray(backend, x, [96, 5])),
  'gather-rows': (backend) => gatherRows(fromArray(backend, x, [5, 96]), fromArray(backend, [4, 0, 4], [3], 'i32')),
  'quantised matmul': (backend) =>
    matmulOp(
      { x: fromArray(backend, x, [5, 96]), weights: fromArray(backend, weights.data, weights.shape, 'u8') },
      { type: q8, outFeatures: 40, inFeatures: 96 },
    ).y,
};

globalThis.run = async () => {
  const backend = await createWebGpuBackend({ fallback: 'error' });
  await backend.prepare([rmsNormOp, softmaxOp, matmulOp]);
  const reference = createReferenceBackend();
  const differences = {};
  for (const [name, op] of Object.entries(ops)) {
    const [actual, expected] = [await op(backend).readNumbers(), await op(reference).readNumbers()];
    differences[name] = expected.reduce((most, value, index) => Math.max(most, Math.abs(value - actual[index])), 0);
    if (actual.length !== expected.length) differences[name] = Infinity;
  }
  const recorded = { replayed: [], calls: 0 };
  const weight = fromArray(backend, x.subarray(0, 96), [96]);
  const kept = backend.record((y) => {
    recorded.calls++;
    return rmsNorm(y, weight);
  });
  for (let round = 0; round < 3; round++) {
    const y = x.map((value) => value + round);
    const actual = await kept.replay(fromArray(backend, y, [5, 96])).readNumbers();
    const expected = await rmsNorm(fromArray(reference, y, [5, 96]), fromArray(reference, x.subarray(0, 96), [96])).readNumbers();
    recorded.replayed.push(expected.reduce((most, value, index) => Math.max(most, Math.abs(value - actual[index])), 0));
  }
  const { device, subgroups } = backend.capabilities;
  const disabled = backend.disabledVariants;
  backend.dispose();
  return { device, subgroups, disabled, differences, recorded };
};
`;

interface Result {
  readonly device: string;
  readonly subgroups: boolean;
  readonly disabled: readonly unknown[];
  readonly differences: Readonly<Record<string, number>>;
  readonly recorded: { readonly replayed: readonly number[]; readonly calls: number };
}

describe('the WebGPU backend in a browser', () => {
  let script: string;
  let result: Result;

  beforeAll(async () => {
    script = await bundle(page, { platform: 'browser' });
    const files = { '/': '<!doctype html><script type="module" src="/main.js"></script>', '/main.js': script };
    result = await withPage(files, async (opened) => {
      await opened.waitForFunction('globalThis.run !== undefined');
      return opened.evaluate<Result>('run()');
    });
  });

  it('agrees with the reference on a few ops, a quantised matmul among them', () => {
    expect(script).not.toMatch(/\bfrom\s*["']node:/);
    console.log(`browser ran on ${result.device}, subgroups ${result.subgroups}: ${JSON.stringify(result.differences)}`);
    expect(result.disabled).toEqual([]);
    expect(Object.keys(result.differences)).toHaveLength(5);
    for (const [name, difference] of Object.entries(result.differences)) expect(difference, name).toBeLessThan(1e-4);
    expect(result.differences['gather-rows']).toBe(0);
  });

  it('replays a recorded step without calling it', () => {
    expect(result.recorded.calls).toBe(1);
    expect(result.recorded.replayed).toHaveLength(3);
    for (const difference of result.recorded.replayed) expect(difference).toBeLessThan(1e-4);
  });
});
