import { OutOfMemoryError, add, empty, fromArray, type Tensor } from '@filigree/core-tensor';
import type { WebGpuBackend } from '@filigree/backend-webgpu';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { testBackend } from './device.js';

let backend: WebGpuBackend;

beforeEach(async () => {
  backend = await testBackend();
});

afterEach(() => {
  backend.dispose();
});

describe('memory of the WebGPU backend', () => {
  it('counts live bytes as asked for, and the peak', () => {
    const tensors = [empty(backend, [1000], 'f32'), empty(backend, [3], 'u8')];
    expect(backend.memory()).toMatchObject({ liveBytes: 4003, peakBytes: 4003, buffers: 2 });
    for (const tensor of tensors) tensor.dispose();
    expect(backend.memory()).toMatchObject({ liveBytes: 0, peakBytes: 4003, buffers: 0 });
  });

  it('keeps released buffers and takes them again', () => {
    empty(backend, [1000], 'f32').dispose();
    const { pooledBytes } = backend.memory();
    expect(pooledBytes).toBeGreaterThanOrEqual(4000);
    const again = empty(backend, [1001], 'f32');
    expect(backend.memory().pooledBytes).toBe(pooledBytes - (pooledBytes >= 4004 ? pooledBytes : 0));
    again.dispose();
  });

  it('reuses a buffer in queue order: what was queued before still sees the old contents', async () => {
    const sums: Tensor[] = [];
    for (let round = 0; round < 20; round++) {
      const x = fromArray(backend, new Float32Array(64).fill(round), [64]);
      sums.push(add(x, x));
      x.dispose();
    }
    const seen = await Promise.all(sums.map(async (sum) => (await sum.readNumbers())[63]));
    expect(seen).toEqual(Array.from({ length: 20 }, (_, round) => 2 * round));
    for (const sum of sums) sum.dispose();
    expect(backend.memory()).toMatchObject({ liveBytes: 0, buffers: 0 });
  });

  it('refuses a tensor above the largest buffer of the device by name', () => {
    const most = backend.capabilities.limits['maxBufferSize'];
    expect(() => empty(backend, [most + 4], 'u8')).toThrow(OutOfMemoryError);
    expect(() => empty(backend, [most + 4], 'u8')).toThrow(/maxBufferSize/);
    expect(backend.memory().liveBytes).toBe(0);
  });
});
