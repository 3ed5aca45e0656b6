import { defineOp, fromArray, MissingKernelError } from '@filigree/core-tensor';
import { describe, expect, it, vi } from 'vitest';
import { testBackend } from './device.js';

const increment = defineOp({
  name: 'test/increment',
  inputs: ['x'],
  outputs: ['y'],
  attributes: {},
  infer: ({ x }) => ({ y: x }),
  reference: ({ x, y }) => {
    for (let index = 0; index < y.data.length; index++) y.data[index] = x.data[index] + 1;
  },
});

describe('an op without a shader', () => {
  it('runs on the reference with one warning, in order with what is queued around it', async () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    const backend = await testBackend({ fallback: 'warn' });
    const x = fromArray(backend, [1, 2, 3], [3]);
    const profile = backend.profile();
    const first = increment({ x }, {}).y;
    backend.write(x.storage, 0, new Uint8Array(Float32Array.of(10, 20, 30).buffer));
    const second = increment({ x }, {}).y;
    expect([...(await first.readNumbers())]).toEqual([2, 3, 4]);
    expect([...(await second.readNumbers())]).toEqual([11, 21, 31]);
    expect((await profile.stop()).map(({ kernel }) => kernel)).toEqual(['reference', 'reference']);
    expect(warn).toHaveBeenCalledTimes(1);
    backend.dispose();
    warn.mockRestore();
  });

  it('is refused where falling back is forbidden', async () => {
    const backend = await testBackend();
    expect(() => increment({ x: fromArray(backend, [1], [1]) }, {})).toThrow(MissingKernelError);
    backend.dispose();
  });
});
