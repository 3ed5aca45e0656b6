import { createNativeBackend } from '@filigree/backend-native';
import { createWebGpuBackend } from '@filigree/backend-webgpu';
import {
  AbortError,
  add,
  argMax,
  createReferenceBackend,
  DisposedError,
  fromArray,
  keep,
  matmul,
  narrow,
  OptionError,
  scope,
  unary,
  writeSlice,
  type Backend,
  type Tensor,
} from '@filigree/core-tensor';
import { appendOp } from '@filigree/kv-cache';
import { useSoftwareGpu } from '@filigree/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const backends: [string, () => Backend | Promise<Backend>][] = [
  ['reference', () => createReferenceBackend()],
  ['native', () => createNativeBackend({ threads: 2, fallback: 'error' })],
  [
    'webgpu',
    () => {
      useSoftwareGpu();
      return createWebGpuBackend({ fallback: 'error' });
    },
  ],
];

describe.each(backends)('record on the %s backend', (name, make) => {
  let backend: Backend;
  let weights: Tensor;

  beforeEach(async () => {
    backend = await make();
    weights = fromArray(backend, [1, 2, 3, 4], [2, 2]);
  });

  afterEach(() => {
    backend.dispose();
  });

  const row = (...values: number[]): Tensor => fromArray(backend, values, [1, values.length]);
  const numbers = async (tensor: Tensor): Promise<number[]> => Array.from(await tensor.readNumbers());

  it('replays with other inputs, and makes results of their own', async () => {
    const recording = backend.record((x: Tensor) => scope(() => unary(matmul(x, weights), 'relu')));
    const results: Tensor[] = [];
    for (const x of [row(1, 0), row(0, 1), row(-1, 0), row(1, 1)]) {
      results.push(recording.replay(x));
      await backend.sync();
    }
    expect(await Promise.all(results.map(numbers))).toEqual([
      [1, 2],
      [3, 4],
      [0, 0],
      [4, 6],
    ]);
    recording.dispose();
  });

  it('feeds results of one replay to the next, on the device', async () => {
    const recording = backend.record((x: Tensor) => scope(() => add(x, x)));
    let x = row(1, 3);
    for (let step = 0; step < 5; step++) {
      const next = recording.replay(x);
      x.dispose();
      x = next;
      if (step === 0) await backend.sync();
    }
    expect(await numbers(x)).toEqual([32, 96]);
    recording.dispose();
  });

  it('returns several results, views of one buffer among them', async () => {
    const recording = backend.record((x: Tensor) =>
      scope(() => {
        const sum = add(x, x);
        return { sum, first: narrow(sum, 0, 1), best: argMax(sum) };
      }),
    );
    for (const values of [
      [1, 5],
      [9, 2],
    ]) {
      const { sum, first, best } = recording.replay(row(...values));
      expect(await numbers(sum)).toEqual(values.map((value) => 2 * value));
      expect(await numbers(first)).toEqual(values.map((value) => 2 * value));
      expect(await numbers(best)).toEqual([values[0] > values[1] ? 0 : 1]);
      for (const tensor of [sum, first, best]) tensor.dispose();
    }
    recording.dispose();
  });

  it('moves views: inputs that are parts of one buffer, at another place each time', async () => {
    const recording = backend.record((a: Tensor, b: Tensor) => scope(() => add(a, b)));
    const table = fromArray(backend, [1, 2, 3, 4, 5, 6], [6, 1]);
    const at = (index: number): Tensor => narrow(table, index, 1);
    const pairs = [
      [0, 1],
      [2, 3],
      [4, 0],
      [5, 5],
      [3, 3],
      [3, 1],
    ];
    for (const [a, b] of pairs) expect(await numbers(recording.replay(at(a), at(b)))).toEqual([a + b + 2]);
    recording.dispose();
  });

  it('tells inputs apart that once were one', async () => {
    const recording = backend.record((a: Tensor, b: Tensor) => scope(() => add(a, b)));
    const [x, y] = [row(1), row(10)];
    for (const [a, b, sum] of [
      [x, x, 2],
      [y, y, 20],
      [x, y, 11],
      [y, y, 20],
    ] as const)
      expect(await numbers(recording.replay(a, b))).toEqual([sum]);
    recording.dispose();
  });

  it('writes in place as the step does', async () => {
    const pages = {
      keyPages: fromArray(backend, new Float32Array(8), [1, 1, 4, 2]),
      valuePages: fromArray(backend, new Float32Array(8), [1, 1, 4, 2]),
    };
    const recording = backend.record((k: Tensor, slots: Tensor) => appendOp({ ...pages, k, v: k, slots }, {}));
    const version = pages.keyPages.storage.version;
    for (let slot = 0; slot < 3; slot++) {
      recording.replay(fromArray(backend, [slot, slot + 10], [1, 1, 2]), fromArray(backend, [slot], [1], 'i32'));
      await backend.sync();
    }
    expect(await numbers(pages.keyPages)).toEqual([0, 10, 1, 11, 2, 12, 0, 0]);
    expect(pages.keyPages.storage.version).toBe(version + 3);
    recording.dispose();
  });

  it('writes its inputs in place as the step does, the same one again or others', async () => {
    const recording = backend.record((into: Tensor, x: Tensor) =>
      scope(() => {
        writeSlice(into, x, { axis: 0, start: 1 });
        return add(into, into);
      }),
    );
    const [a, b] = [fromArray(backend, [0, 0], [2]), fromArray(backend, [5, 5], [2])];
    const rounds = [a, a, a, b, a, b];
    for (const [round, into] of rounds.entries()) {
      const { version } = into.storage;
      const doubled = await numbers(recording.replay(into, fromArray(backend, [round], [1])));
      expect(doubled).toEqual([into === a ? 0 : 10, 2 * round]);
      expect(await numbers(into)).toEqual([into === a ? 0 : 5, round]);
      expect(into.storage.version).toBeGreaterThan(version);
    }
    recording.dispose();
  });

  it('returns what it was given', async () => {
    const recording = backend.record((x: Tensor) => ({ x, sum: add(x, x) }));
    for (let round = 0; round < 3; round++) {
      const given = row(round);
      const { x, sum } = recording.replay(given);
      expect(await numbers(x)).toEqual([round]);
      expect(await numbers(sum)).toEqual([2 * round]);
    }
    recording.dispose();
  });

  it('can be replayed inside of another recording', async () => {
    const inner = backend.record((x: Tensor) => scope(() => add(x, x)));
    const outer = backend.record((x: Tensor) => scope(() => add(inner.replay(x), x)));
    for (let round = 0; round < 4; round++) {
      expect(await numbers(inner.replay(row(round)))).toEqual([2 * round]);
      expect(await numbers(outer.replay(row(round)))).toEqual([3 * round]);
    }
    for (const recording of [inner, outer]) recording.dispose();
  });

  it('leaves nothing behind when the step throws, and can be replayed then', async () => {
    let broken = true;
    const recording = backend.record((x: Tensor) =>
      scope(() => {
        const sum = add(x, x);
        if (broken) throw new Error('not now');
        return sum;
      }),
    );
    const x = row(4);
    await backend.sync();
    const before = backend.memory();
    for (let round = 0; round < 2; round++) expect(() => recording.replay(x)).toThrow('not now');
    await backend.sync();
    expect(backend.memory()).toMatchObject({ liveBytes: before.liveBytes, buffers: before.buffers });
    broken = false;
    for (let round = 0; round < 3; round++) expect(await numbers(recording.replay(x))).toEqual([8]);
    recording.dispose();
  });

  it('runs under the signal of each replay', async () => {
    const recording = backend.record((x: Tensor) => scope(() => add(x, x)));
    const x = row(1, 2);
    for (let round = 0; round < 3; round++) {
      const controller = new AbortController();
      const sum = backend.withSignal(controller.signal, () => recording.replay(x));
      expect(await numbers(sum)).toEqual([2, 4]);
      controller.abort();
      expect(() => backend.withSignal(controller.signal, () => recording.replay(x))).toThrow(AbortError);
      expect(await numbers(recording.replay(x))).toEqual([2, 4]);
    }
    recording.dispose();
  });

  it('runs steps that cannot be kept as they are: host data inside, kept tensors, other shapes', async () => {
    const kept: Tensor[] = [];
    const withData = backend.record((x: Tensor) => scope(() => add(x, fromArray(backend, [1, 1], [1, 2]))));
    const keeps = backend.record((x: Tensor) =>
      scope(() => {
        kept.push(keep(add(x, x)));
        return add(x, weights);
      }),
    );
    for (const [a, b] of [
      [1, 2],
      [3, 4],
    ]) {
      expect(await numbers(withData.replay(row(a, b)))).toEqual([a + 1, b + 1]);
      expect(await numbers(keeps.replay(row(a, b)))).toEqual([a + 1, b + 2, a + 3, b + 4]);
    }
    expect(await numbers(kept[1])).toEqual([6, 8]);
    const shapes = backend.record((x: Tensor) => scope(() => add(x, x)));
    expect(await numbers(shapes.replay(row(1, 2)))).toEqual([2, 4]);
    expect(await numbers(shapes.replay(row(1, 2, 3)))).toEqual([2, 4, 6]);
    for (const values of [
      [5, 6, 7],
      [8, 9, 1],
      [2, 3],
      [4, 5],
      [6, 7],
    ])
      expect(await numbers(shapes.replay(row(...values)))).toEqual(values.map((value) => 2 * value));
    expect(() => shapes.replay(fromArray(backend, [1, 2], [2], 'i64'))).toThrow();
    expect(await numbers(shapes.replay(row(1, 2)))).toEqual([2, 4]);
  });

  it('refuses inputs that are gone, and replays after dispose', async () => {
    const recording = backend.record((x: Tensor) => scope(() => add(x, x)));
    const x = row(1);
    for (let round = 0; round < 3; round++) expect(await numbers(recording.replay(x))).toEqual([2]);
    x.dispose();
    expect(() => recording.replay(x)).toThrow(DisposedError);
    recording.dispose();
    recording.dispose();
    if (name !== 'reference') expect(() => recording.replay(row(1))).toThrow(OptionError);
  });

  it('keeps what it uses alive until it is disposed, and returns to its memory', async () => {
    // This one runs the step again.
    if (name === 'reference') return;
    const before = backend.memory();
    const mine = fromArray(backend, [2, 2], [1, 2]);
    const recording = backend.record((x: Tensor) => scope(() => add(x, mine)));
    const x = row(1, 1);
    recording.replay(x).dispose();
    await backend.sync();
    mine.dispose();
    for (let round = 0; round < 3; round++) {
      const result = recording.replay(x);
      expect(await numbers(result)).toEqual([3, 3]);
      result.dispose();
    }
    x.dispose();
    recording.dispose();
    await backend.sync();
    expect(backend.memory().liveBytes).toBe(before.liveBytes);
    expect(backend.memory().buffers).toBe(before.buffers);
    expect(() => recording.replay(x)).toThrow();
  });
});
