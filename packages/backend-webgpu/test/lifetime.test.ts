import { add, createReferenceBackend, DeviceLostError, DisposedError, fromArray } from '@filigree/core-tensor';
import { describe, expect, it } from 'vitest';
import { getGpu } from '../src/gpu.node.js';
import { testBackend } from './device.js';

describe('the life of a WebGPU backend', () => {
  it('rejects pending reads when the device is lost, throws on later use, and can be made again', async () => {
    const backend = await testBackend();
    const x = fromArray(backend, [1, 2, 3], [3]);
    const sum = add(x, x);
    const pending = sum.read();
    backend.device.destroy();
    await expect(pending).rejects.toThrow(DeviceLostError);
    await expect(sum.read()).rejects.toThrow(DeviceLostError);
    expect(() => add(x, x)).toThrow(DeviceLostError);
    await expect(backend.sync()).rejects.toThrow(DeviceLostError);
    backend.dispose();
    const again = await testBackend();
    const y = fromArray(again, [1, 2, 3], [3]);
    expect([...(await add(y, y).readNumbers())]).toEqual([2, 4, 6]);
    again.dispose();
  });

  it('throws after dispose, and destroys the device it made', async () => {
    const backend = await testBackend();
    const x = fromArray(backend, [1], [1]);
    backend.dispose();
    backend.dispose();
    expect((await backend.device.lost).reason).toBe('destroyed');
    expect(() => add(x, x)).toThrow(DisposedError);
    expect(backend.memory()).toMatchObject({ liveBytes: 0, buffers: 0, pooledBytes: 0 });
  });

  it('rejects a read that dispose overtakes', async () => {
    const backend = await testBackend();
    const pending = fromArray(backend, [1], [1]).read();
    backend.dispose();
    await expect(pending).rejects.toThrow(DisposedError);
  });

  it('leaves a device it was given alone', async () => {
    const gpu = await getGpu();
    const device = await (await gpu.requestAdapter())?.requestDevice();
    if (!device) throw new Error('no device');
    const first = await testBackend({ device });
    first.dispose();
    const second = await testBackend({ device });
    const x = fromArray(second, [4], [1]);
    expect([...(await add(x, x).readNumbers())]).toEqual([8]);
    second.dispose();
    device.destroy();
  });

  it('moves tensors to and from other backends', async () => {
    const backend = await testBackend();
    const reference = createReferenceBackend();
    const here = await fromArray(reference, [1, 2, 3, 4], [2, 2]).toBackend(backend);
    const back = await add(here, here).toBackend(reference);
    expect([...(await back.readNumbers())]).toEqual([2, 4, 6, 8]);
    backend.dispose();
  });
});
