import { add, empty, fromArray, fromBytes, writeSlice, type Tensor } from '@filigree/core-tensor';
import type { WebGpuBackend } from '@filigree/backend-webgpu';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { testBackend } from './device.js';

let backend: WebGpuBackend;

beforeAll(async () => {
  backend = await testBackend();
});

afterAll(() => {
  backend.dispose();
});

const ramp = (count: number): Uint8Array => Uint8Array.from({ length: count }, (_, index) => (index * 7 + 1) % 256);

describe('transfers of the WebGPU backend', () => {
  it('writes and reads bytes at any alignment, and nothing beside them', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 40 }), fc.nat(39), fc.nat(40), async (size, at, wanted) => {
        const offset = at % size;
        const length = Math.min(wanted, size - offset);
        const expected = ramp(size);
        const tensor = fromBytes(backend, expected, [size], 'u8');
        const data = new Uint8Array(length).fill(200);
        backend.write(tensor.storage, offset, data);
        expected.set(data, offset);
        expect(await tensor.readBytes()).toEqual(expected);
        expect(await backend.read(tensor.storage, offset, length)).toEqual(data);
        tensor.dispose();
      }),
      { numRuns: 60, seed: 3 },
    );
  });

  it('puts writes between the ops they were queued between', async () => {
    const x = fromArray(backend, [1, 2, 3], [3]);
    const before = add(x, x);
    backend.write(x.storage, 0, new Uint8Array(Float32Array.of(10, 20, 30).buffer));
    const after = add(x, x);
    expect([...(await before.readNumbers())]).toEqual([2, 4, 6]);
    expect([...(await after.readNumbers())]).toEqual([20, 40, 60]);
    for (const tensor of [x, before, after]) tensor.dispose();
  });

  it('takes data at once: the caller may overwrite it', async () => {
    const data = Float32Array.of(1, 2, 3, 4);
    const x = fromArray(backend, data, [4]);
    data.fill(9);
    expect([...(await x.readNumbers())]).toEqual([1, 2, 3, 4]);
    x.dispose();
  });

  it('reads tensors without elements', async () => {
    const x = empty(backend, [0, 5], 'f32');
    expect(await x.read()).toHaveLength(0);
    x.dispose();
  });

  it('writes into a view that starts inside of a word and keeps its neighbours', async () => {
    const whole = fromBytes(backend, ramp(23), [23], 'u8');
    const target = whole.view([3, 5], 3);
    const source = fromBytes(backend, new Uint8Array(6).fill(255), [3, 2], 'u8');
    writeSlice(target, source, { axis: 1, start: 2 });
    const expected = ramp(23);
    for (let row = 0; row < 3; row++) expected.fill(255, 3 + 5 * row + 2, 3 + 5 * row + 4);
    expect(await whole.readBytes()).toEqual(expected);
    for (const tensor of [whole, target, source]) tensor.dispose();
  });

  it('reads and writes one buffer in one op', async () => {
    const whole = fromArray(backend, [1, 2, 3, 4, 5, 6, 7, 8], [8]);
    const [target, source] = [whole.view([4], 4), whole.view([2], 1)];
    writeSlice(target, source, { axis: 0, start: 2 });
    expect([...(await whole.readNumbers())]).toEqual([1, 2, 3, 4, 5, 6, 2, 3]);
    for (const tensor of [whole, target, source] as Tensor[]) tensor.dispose();
  });
});
