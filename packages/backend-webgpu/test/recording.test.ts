import {
  AbortError,
  add,
  cast,
  defineOp,
  DeviceLostError,
  DisposedError,
  empty,
  ExecutionError,
  fromArray,
  matmul,
  mul,
  narrow,
  rmsNorm,
  rmsNormOp,
  scope,
  softmax,
  writeSlice,
  type Tensor,
} from '@filigree/core-tensor';
import type { WebGpuBackend } from '@filigree/backend-webgpu';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { testBackend } from './device.js';
import { withShader } from './with-shader.js';

const doubleOnHost = defineOp({
  name: 'test/double-on-host',
  inputs: ['x'],
  outputs: ['y'],
  attributes: {},
  infer: ({ x }) => ({ y: x }),
  reference: ({ x, y }) => {
    for (let index = 0; index < y.data.length; index++) y.data[index] = 2 * x.data[index];
  },
});

let backend: WebGpuBackend;

beforeEach(async () => {
  backend = await testBackend({ variants: { subgroups: false } });
});

afterEach(() => {
  backend.dispose();
});

const row = (...values: number[]): Tensor => fromArray(backend, values, [1, values.length]);
const numbers = async (tensor: Tensor): Promise<number[]> => Array.from(await tensor.readNumbers());

/** x ↦ (x W) + (x W), and how often it was called. */
function counted(weights: Tensor): { step: (x: Tensor) => Tensor; calls: () => number } {
  let calls = 0;
  const step = (x: Tensor): Tensor =>
    scope(() => {
      calls++;
      const product = matmul(x, weights);
      return add(product, product);
    });
  return { step, calls: () => calls };
}

describe('a recording on WebGPU', () => {
  let weights: Tensor;

  beforeEach(() => {
    weights = fromArray(backend, [1, 2, 3, 4], [2, 2]);
  });

  it('calls the step once, and makes no bind groups, pipelines or buffers when it is replayed', async () => {
    const { step, calls } = counted(weights);
    const recording = backend.record(step);
    const made = (['createBindGroup', 'createBuffer', 'createComputePipeline'] as const).map((name) =>
      vi.spyOn(backend.device, name),
    );
    const run = vi.spyOn(backend, 'run');
    const x = row(1, 1);
    for (let round = 0; round < 50; round++) {
      const result = recording.replay(x);
      if (round > 1) for (const spy of [...made, run]) expect(spy).not.toHaveBeenCalled();
      expect(await numbers(result)).toEqual([8, 12]);
      result.dispose();
      for (const spy of [...made, run]) spy.mockClear();
    }
    expect(calls()).toBe(1);
    for (const spy of [...made, run]) spy.mockRestore();
  });

  it('holds the same memory however often it is replayed, and gives it back', async () => {
    const { step } = counted(weights);
    const recording = backend.record(step);
    const before = backend.memory();
    const held: number[] = [];
    for (let round = 0; round < 50; round++) {
      const x = row(round, 0);
      const result = recording.replay(x);
      expect(await numbers(result)).toEqual([2 * round, 4 * round]);
      for (const tensor of [x, result]) tensor.dispose();
      const { liveBytes, pooledBytes } = backend.memory();
      held.push(liveBytes + pooledBytes);
      // Its intermediates count as long as it lives.
      if (round > 0) expect(liveBytes).toBeGreaterThan(before.liveBytes);
    }
    expect(new Set(held.slice(1)).size).toBe(1);
    recording.dispose();
    await backend.sync();
    expect(backend.memory()).toMatchObject({ liveBytes: before.liveBytes, buffers: before.buffers });
  });

  it('gives the numbers of the step where its inputs are queued, replayed and dropped without waiting', async () => {
    const { step, calls } = counted(weights);
    const recording = backend.record(step);
    (await numbers(recording.replay(row(0, 0)))).pop();
    const results: Tensor[] = [];
    for (let round = 0; round < 30; round++) {
      const x = row(round, 1);
      results.push(recording.replay(x));
      x.dispose();
    }
    recording.dispose();
    for (const [round, result] of results.entries()) expect(await numbers(result)).toEqual([2 * round + 6, 4 * round + 8]);
    expect(calls()).toBe(1);
  });

  it('sees what the host writes between replays, in an input and in what it uses', async () => {
    const offsets = row(0, 0);
    const { step } = counted(weights);
    const recording = backend.record((x: Tensor) => scope(() => add(step(x), offsets)));
    const x = row(1, 0);
    const results: Tensor[] = [];
    for (let round = 0; round < 5; round++) {
      backend.write(x.storage, 0, new Uint8Array(Float32Array.of(round, 0).buffer));
      backend.write(offsets.storage, 0, new Uint8Array(Float32Array.of(100, round).buffer));
      results.push(recording.replay(x));
      if (round === 0) await backend.sync();
    }
    for (const [round, result] of results.entries()) expect(await numbers(result)).toEqual([2 * round + 100, 5 * round]);
    recording.dispose();
  });

  it('takes inputs at any byte, and those without elements', async () => {
    const bytes = fromArray(
      backend,
      Array.from({ length: 40 }, (_, index) => index),
      [40],
      'u8',
    );
    const none = empty(backend, [0, 2], 'f32');
    let calls = 0;
    const recording = backend.record((x: Tensor, rows: Tensor) =>
      scope(() => {
        calls++;
        return { values: cast(x, 'f32'), rows: matmul(rows, weights) };
      }),
    );
    for (const at of [0, 4, 8, 3, 12, 37]) {
      const { values, rows } = recording.replay(narrow(bytes, at, 3), none);
      expect(await numbers(values)).toEqual([at, at + 1, at + 2]);
      expect(rows.shape).toEqual([0, 2]);
    }
    // Once to record, and where words cannot be copied.
    expect(calls).toBe(3);
    recording.dispose();
  });

  it('writes what the step writes, at every replay', async () => {
    const state = fromArray(backend, [0, 0, 0], [3]);
    let calls = 0;
    const recording = backend.record((x: Tensor) =>
      scope(() => {
        calls++;
        writeSlice(state, add(narrow(state, 0, 1), x), { axis: 0, start: 0 });
      }),
    );
    for (let round = 1; round <= 5; round++) {
      recording.replay(fromArray(backend, [round], [1]));
      expect(await numbers(state)).toEqual([(round * (round + 1)) / 2, 0, 0]);
      expect(state.storage.version).toBe(round);
    }
    expect(calls).toBe(1);
    recording.dispose();
  });

  it('lets ready() wait for the device as the ops of its steps would', async () => {
    const recording = backend.record((x: Tensor) =>
      scope(() => {
        let y = x;
        for (let count = 0; count < 40; count++) y = add(y, weights);
        return y;
      }),
    );
    await numbers(recording.replay(weights));
    const waits = vi.spyOn(backend.device.queue, 'onSubmittedWorkDone');
    for (let step = 0; step < 60; step++) {
      recording.replay(weights).dispose();
      await backend.ready();
    }
    // 2,400 commands, of which some thousand may be on the way.
    expect(waits).toHaveBeenCalled();
    waits.mockRestore();
    recording.dispose();
  });

  it('profiles its ops as calls of them', async () => {
    const { step, calls } = counted(weights);
    const recording = backend.record(step);
    const x = row(1, 1);
    for (let round = 0; round < 3; round++) await numbers(recording.replay(x));
    const profile = backend.profile();
    const results = [recording.replay(x), recording.replay(x)];
    const entries = await profile.stop();
    const once = ['core/matmul webgpu plain', 'core/binary webgpu plain'];
    expect(entries.map(({ op, kernel, variant }) => `${op} ${kernel} ${variant}`)).toEqual([...once, ...once]);
    for (const result of results) expect(await numbers(result)).toEqual([8, 12]);
    expect(calls()).toBe(1);
    recording.dispose();
  });

  it('runs the step again once one of its ops has a faster shader, and then keeps that', async () => {
    const fast = await testBackend();
    const [x, weight] = [fromArray(fast, [1, 2, 3], [1, 3]), fromArray(fast, [1, 1, 1], [3])];
    let calls = 0;
    const recording = fast.record((x: Tensor) => {
      calls++;
      return rmsNorm(x, weight);
    });
    const variants: string[] = [];
    const replay = async (): Promise<void> => {
      const profile = fast.profile();
      recording.replay(x).dispose();
      variants.push(...(await profile.stop()).map(({ variant }) => variant));
    };
    await replay();
    await fast.prepare([rmsNormOp]);
    for (let round = 0; round < 3; round++) await replay();
    expect(variants).toEqual(['plain', 'subgroups', 'subgroups', 'subgroups']);
    expect(calls).toBe(2);
    fast.dispose();
  });

  it('runs a step with an op without a shader as it is, and waits for one that runs outside', async () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    const falling = await testBackend({ fallback: 'warn' });
    const x = fromArray(falling, [1, 2], [2]);
    const inside = falling.record((x: Tensor) => scope(() => add(doubleOnHost({ x }, {}).y, x)));
    let calls = 0;
    const behind = falling.record((x: Tensor) => {
      calls++;
      return add(x, x);
    });
    for (let round = 0; round < 3; round++) expect(await numbers(inside.replay(x))).toEqual([3, 6]);
    for (let round = 0; round < 2; round++) expect(await numbers(behind.replay(x))).toEqual([2, 4]);
    for (let round = 0; round < 3; round++) {
      const { y } = doubleOnHost({ x }, {});
      const sum = behind.replay(y);
      y.dispose();
      expect(await numbers(sum)).toEqual([4, 8]);
    }
    expect(calls).toBe(1);
    falling.dispose();
    warn.mockRestore();
  });

  it('fails as the step does, by op and shapes, and takes nothing else with it', async () => {
    const refused = withShader(rmsNormOp, (shader) => shader.replace('p.eps', 'p.no_such_field'));
    const weight = fromArray(backend, [1, 1], [2]);
    const recording = backend.record((x: Tensor) =>
      scope(() => ({ bad: backend.run(refused, { x, weight }, {})['y'], good: add(x, x) })),
    );
    const x = row(1, 2);
    await backend.sync();
    const before = backend.memory();
    for (let round = 0; round < 3; round++) {
      const { bad, good } = recording.replay(x);
      await expect(numbers(bad)).rejects.toThrow(ExecutionError);
      await expect(numbers(bad)).rejects.toThrow(/core\/rms-norm.*no_such_field/s);
      expect(await numbers(good)).toEqual([2, 4]);
      for (const tensor of [bad, good]) tensor.dispose();
    }
    recording.dispose();
    await backend.sync().catch(() => undefined);
    expect(backend.memory()).toMatchObject({ liveBytes: before.liveBytes, buffers: before.buffers });
  });

  it('rejects results of a state that was lost', async () => {
    const state = row(1, 1);
    const recording = backend.record((x: Tensor) => scope(() => ({ sum: add(x, state), own: mul(x, x) })));
    const x = row(1, 2);
    for (let round = 0; round < 2; round++) expect(await numbers(recording.replay(x).sum)).toEqual([2, 3]);
    // The first call of a shader goes to the device at once.
    writeSlice(state, row(1, 1), { axis: 0, start: 0 });
    await backend.sync();
    const controller = new AbortController();
    backend.withSignal(controller.signal, () => writeSlice(state, x, { axis: 0, start: 0 }));
    const pending = recording.replay(x);
    controller.abort();
    await expect(numbers(pending.sum)).rejects.toThrow(AbortError);
    const { sum, own } = recording.replay(x);
    await expect(numbers(sum)).rejects.toThrow(AbortError);
    expect(await numbers(own)).toEqual([1, 4]);
    recording.dispose();
  });

  it('drops a replay whose signal fires before it is handed over', async () => {
    const { step } = counted(weights);
    const recording = backend.record(step);
    const x = row(1, 1);
    for (let round = 0; round < 2; round++) await numbers(recording.replay(x));
    const controller = new AbortController();
    const dropped = backend.withSignal(controller.signal, () => recording.replay(x));
    const kept = recording.replay(x);
    controller.abort();
    await expect(numbers(dropped)).rejects.toThrow(AbortError);
    expect(await numbers(kept)).toEqual([8, 12]);
    await backend.sync();
    recording.dispose();
  });

  it('rejects what is pending when the device is lost, and throws then; after dispose too', async () => {
    const { step } = counted(weights);
    const recording = backend.record(step);
    const x = row(1, 1);
    for (let round = 0; round < 2; round++) await numbers(recording.replay(x));
    const pending = recording.replay(x).read();
    backend.device.destroy();
    await expect(pending).rejects.toThrow(DeviceLostError);
    expect(() => recording.replay(x)).toThrow(DeviceLostError);
    backend.dispose();
    expect(() => recording.replay(x)).toThrow(DisposedError);
    recording.dispose();
    expect(backend.memory()).toMatchObject({ liveBytes: 0, buffers: 0, pooledBytes: 0 });
  });

  it('repeats ops that are split over several dispatches, and copies of bindings', async () => {
    const tiny = await testBackend({
      variants: { subgroups: false },
      limits: { maxStorageBufferBindingSize: 512, maxComputeWorkgroupsPerDimension: 2 },
    });
    const table = fromArray(
      tiny,
      Float32Array.from({ length: 600 }, (_, index) => index % 7),
      [10, 60],
    );
    let calls = 0;
    const recording = tiny.record((x: Tensor) =>
      scope(() => {
        calls++;
        // Reads and writes one buffer.
        writeSlice(table, narrow(table, 0, 1), { axis: 0, start: 1 });
        return softmax(add(table, x));
      }),
    );
    const plain = (x: Tensor): Tensor => scope(() => softmax(add(table, x)));
    for (let round = 0; round < 3; round++) {
      const x = fromArray(
        tiny,
        Float32Array.from({ length: 600 }, (_, index) => (index * round) % 5),
        [10, 60],
      );
      const replayed = await recording.replay(x).readNumbers();
      expect(replayed).toEqual(await plain(x).readNumbers());
    }
    expect(calls).toBe(1);
    tiny.dispose();
  });
});
