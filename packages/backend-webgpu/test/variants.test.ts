import { defineOp, fromArray, rmsNorm, rmsNormOp, seededTensor, uniform, type WebGpuKernel } from '@filigree/core-tensor';
import { describe, expect, it, vi } from 'vitest';
import { testBackend } from './device.js';

/** y = 2 x, or 3 x where the variant is wrong. */
function doubling(broken: boolean): WebGpuKernel {
  return {
    shader: ({ subgroups }) => `
      struct Parameters { x_offset: u32, y_offset: u32, pad0: u32, pad1: u32, count: u32 }
      @group(0) @binding(0) var<storage, read> x: array<f32>;
      @group(0) @binding(1) var<storage, read_write> y: array<f32>;
      @group(0) @binding(2) var<uniform> p: Parameters;
      @compute @workgroup_size(64)
      fn main(@builtin(global_invocation_id) id: vec3u) {
        if (id.x < p.count) { y[p.y_offset + id.x] = ${subgroups && broken ? '3.0' : '2.0'} * x[p.x_offset + id.x]; }
      }`,
    variants: ['subgroups'],
    selfTest: () => ({ inputs: { x: seededTensor(1, [10]) }, attributes: {} }),
    plan: ({ x }) => (x ? [{ workgroups: [1], uniforms: [uniform.u32(x.shape[0])] }] : []),
  };
}

function doubleOp(name: string, webgpu: WebGpuKernel) {
  return defineOp({
    name,
    inputs: ['x'],
    outputs: ['y'],
    attributes: {},
    infer: ({ x }) => ({ y: x }),
    reference: ({ x, y }) => {
      for (let index = 0; index < y.data.length; index++) y.data[index] = 2 * x.data[index];
    },
    webgpu,
  });
}

describe('shader variants', () => {
  it('disables one whose result is wrong, says so, and runs the plain shader', async () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    const backend = await testBackend();
    const broken = doubleOp('test/broken-variant', doubling(true));
    await backend.prepare([broken]);
    expect(backend.disabledVariants).toMatchObject([{ op: 'test/broken-variant', variant: 'subgroups' }]);
    expect(backend.disabledVariants[0].reason).toMatch(/^y element 0 is /);
    expect(warn).toHaveBeenCalledTimes(1);
    const profile = backend.profile();
    expect([...(await broken({ x: fromArray(backend, [1, 2], [2]) }, {}).y.readNumbers())]).toEqual([2, 4]);
    expect((await profile.stop()).map(({ variant }) => variant)).toEqual(['plain']);
    await backend.sync();
    backend.dispose();
    warn.mockRestore();
  });

  it('takes one that is right', async () => {
    const backend = await testBackend();
    const right = doubleOp('test/right-variant', doubling(false));
    await backend.prepare([right]);
    const profile = backend.profile();
    expect([...(await right({ x: fromArray(backend, [1, 2], [2]) }, {}).y.readNumbers())]).toEqual([2, 4]);
    expect((await profile.stop()).map(({ variant }) => variant)).toEqual(['subgroups']);
    expect(backend.disabledVariants).toEqual([]);
    backend.dispose();
  });

  it('runs the plain shader of an op that was not prepared, until its test is through', async () => {
    const backend = await testBackend();
    const [x, weight] = [fromArray(backend, [1, 2, 3], [1, 3]), fromArray(backend, [1, 1, 1], [3])];
    const profile = backend.profile();
    rmsNorm(x, weight);
    await backend.prepare([rmsNormOp]);
    rmsNorm(x, weight);
    expect((await profile.stop()).map(({ variant }) => variant)).toEqual(['plain', 'subgroups']);
    backend.dispose();
  });

  it('uses none that the caller switched off', async () => {
    const backend = await testBackend({ variants: { subgroups: false } });
    expect(backend.capabilities.subgroups).toBe(false);
    await backend.prepare([rmsNormOp]);
    const profile = backend.profile();
    rmsNorm(fromArray(backend, [1, 2, 3], [1, 3]), fromArray(backend, [1, 1, 1], [3]));
    expect((await profile.stop()).map(({ variant }) => variant)).toEqual(['plain']);
    backend.dispose();
  });
});
