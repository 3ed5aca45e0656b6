import { AbortError, add, ExecutionError, fromArray, matmul, mul, rmsNorm, rmsNormOp, type AnyOp } from '@filigree/core-tensor';
import type { WebGpuBackend } from '@filigree/backend-webgpu';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { testBackend } from './device.js';
import { withShader } from './with-shader.js';

let backend: WebGpuBackend;

beforeEach(async () => {
  backend = await testBackend();
});

afterEach(() => {
  backend.dispose();
});

/** An op whose shader the device refuses. */
function refused(): AnyOp {
  return withShader(rmsNormOp, (shader) => shader.replace('p.eps', 'p.no_such_field'));
}

describe('the queue of the WebGPU backend', () => {
  it('rejects reads of what a refused op should have made, and of what depends on it, by name and shapes', async () => {
    const x = fromArray(backend, [1, 2, 3, 4, 5, 6], [2, 3]);
    const weight = fromArray(backend, [1, 1, 1], [3]);
    const good = rmsNorm(x, weight);
    const { y } = backend.run(refused(), { x, weight }, {});
    const dependent = add(y, x);
    const other = mul(x, x);
    await expect(y.read()).rejects.toThrow(ExecutionError);
    await expect(y.read()).rejects.toThrow(/core\/rms-norm.*x \[2, 3\].*no_such_field/s);
    await expect(dependent.read()).rejects.toThrow(/core\/rms-norm/);
    expect([...(await other.readNumbers())]).toEqual([1, 4, 9, 16, 25, 36]);
    expect((await good.readNumbers())[0]).toBeCloseTo(1 / Math.sqrt(14 / 3 + 1e-5), 5);
  });

  it('reports the first failure through sync, once', async () => {
    const x = fromArray(backend, [1, 2, 3], [1, 3]);
    const weight = fromArray(backend, [1, 1, 1], [3]);
    backend.run(refused(), { x, weight }, {});
    await expect(backend.sync()).rejects.toThrow(/core\/rms-norm/);
    await backend.sync();
    expect([...(await add(x, x).readNumbers())]).toEqual([2, 4, 6]);
  });

  it('drops queued work when its signal fires, and keeps what was queued without it', async () => {
    const controller = new AbortController();
    const x = fromArray(backend, [1, 2, 3], [3]);
    // The first call of a shader goes to the device at once, so that its failure would be its own.
    await add(x, x).read();
    const kept = add(x, x);
    const dropped = backend.withSignal(controller.signal, () => mul(x, x));
    const behind = add(dropped, x);
    controller.abort();
    await expect(dropped.read()).rejects.toThrow(AbortError);
    await expect(behind.read()).rejects.toThrow(AbortError);
    expect([...(await kept.readNumbers())]).toEqual([2, 4, 6]);
    await backend.sync();
    expect(() => backend.withSignal(controller.signal, () => add(x, x))).toThrow(AbortError);
  });

  it('gives memory back after failures and aborts', async () => {
    const before = backend.memory();
    const x = fromArray(backend, [1, 2, 3], [1, 3]);
    const weight = fromArray(backend, [1, 1, 1], [3]);
    const { y } = backend.run(refused(), { x, weight }, {});
    await expect(y.read()).rejects.toThrow(ExecutionError);
    for (const tensor of [x, weight, y]) tensor.dispose();
    await backend.sync().catch(() => undefined);
    expect(backend.memory()).toMatchObject({ liveBytes: before.liveBytes, buffers: before.buffers });
  });

  it('runs thousands of ops with ready() between them', async () => {
    let x = fromArray(backend, new Float32Array(16).fill(0), [16]);
    const one = fromArray(backend, new Float32Array(16).fill(1), [16]);
    for (let step = 0; step < 3000; step++) {
      const next = add(x, one);
      x.dispose();
      x = next;
      if (step % 100 === 0) await backend.ready();
    }
    expect((await x.readNumbers())[15]).toBe(3000);
    expect(backend.memory().buffers).toBe(2);
  });

  it('splits an op over more dispatches than one batch holds', async () => {
    const rows = 300;
    const a = fromArray(
      backend,
      Float32Array.from({ length: rows * 2 }, (_, index) => index % 5),
      [rows, 1, 2],
    );
    const b = fromArray(backend, [1, 10], [2, 1]);
    const y = await matmul(a, b).readNumbers();
    expect([...y]).toEqual(Array.from({ length: rows }, (_, row) => ((2 * row) % 5) + 10 * ((2 * row + 1) % 5)));
  });

  it('profiles each op once, with the kernel and variant that ran', async () => {
    const x = fromArray(backend, [1, 2, 3], [1, 3]);
    const profile = backend.profile();
    add(x, x);
    mul(x, x);
    const entries = await profile.stop();
    expect(entries.map(({ op, kernel, variant }) => `${op} ${kernel} ${variant}`)).toEqual([
      'core/binary webgpu plain',
      'core/binary webgpu plain',
    ]);
    for (const { milliseconds } of entries) expect(milliseconds).toBeGreaterThanOrEqual(0);
  });

  it('profiles by the clock where the device has no timestamps', async () => {
    const adapter = await (await import('../src/gpu.node.js')).getGpu().then((gpu) => gpu.requestAdapter());
    const device = await adapter?.requestDevice();
    if (!device) throw new Error('no device');
    const plain = await testBackend({ device });
    expect(device.features.has('timestamp-query')).toBe(false);
    const x = fromArray(plain, [1, 2, 3], [3]);
    const profile = plain.profile();
    add(x, x);
    const entries = await profile.stop();
    expect(entries).toHaveLength(1);
    expect(entries[0].milliseconds).toBeGreaterThan(0);
    plain.dispose();
    device.destroy();
  });
});
