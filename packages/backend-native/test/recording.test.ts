import { createNativeBackend, type NativeBackend } from '@filigree/backend-native';
import { add, argMax, fromArray, keep, matmul, narrow, scope, unary, type Tensor } from '@filigree/core-tensor';
import { appendOp } from '@filigree/kv-cache';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

describe('record on the native backend', () => {
  let backend: NativeBackend;
  let weights: Tensor;

  beforeEach(() => {
    backend = createNativeBackend({ threads: 2, fallback: 'error' });
    weights = fromArray(backend, [1, 2, 3, 4], [2, 2]);
  });

  afterEach(() => {
    backend.dispose();
  });

  const row = (...values: number[]): Tensor => fromArray(backend, values, [1, values.length]);
  const numbers = async (tensor: Tensor): Promise<number[]> => Array.from(await tensor.readNumbers());

  it('replays with other inputs, and makes results of their own', async () => {
    const recording = backend.record((x: Tensor) => scope(() => unary(matmul(x, weights), 'relu')));
    const results = [row(1, 0), row(0, 1), row(-1, 0), row(1, 1)].map((x) => recording.replay(x));
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
    const sums = [
      [0, 1],
      [2, 3],
      [4, 0],
      [5, 5],
    ].map(([a, b]) => recording.replay(at(a), at(b)));
    expect((await Promise.all(sums.map(numbers))).flat()).toEqual([3, 7, 6, 12]);
    recording.dispose();
  });

  it('writes in place as the step does', async () => {
    const pages = {
      keyPages: fromArray(backend, new Float32Array(8), [1, 1, 4, 2]),
      valuePages: fromArray(backend, new Float32Array(8), [1, 1, 4, 2]),
    };
    const recording = backend.record((k: Tensor, slots: Tensor) => appendOp({ ...pages, k, v: k, slots }, {}));
    const version = pages.keyPages.storage.version;
    for (let slot = 0; slot < 3; slot++)
      recording.replay(fromArray(backend, [slot, slot + 10], [1, 1, 2]), fromArray(backend, [slot], [1], 'i32'));
    expect(await numbers(pages.keyPages)).toEqual([0, 10, 1, 11, 2, 12, 0, 0]);
    expect(pages.keyPages.storage.version).toBe(version + 3);
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
    expect(await numbers(shapes.replay(row(5, 6, 7)))).toEqual([10, 12, 14]);
  });

  it('keeps what it uses alive until it is disposed, and returns to its memory', async () => {
    const before = backend.memory();
    const mine = fromArray(backend, [2, 2], [1, 2]);
    const recording = backend.record((x: Tensor) => scope(() => add(x, mine)));
    const x = row(1, 1);
    recording.replay(x).dispose();
    mine.dispose();
    const result = recording.replay(x);
    expect(await numbers(result)).toEqual([3, 3]);
    for (const tensor of [x, result]) tensor.dispose();
    recording.dispose();
    await backend.sync();
    expect(backend.memory().liveBytes).toBe(before.liveBytes);
    expect(backend.memory().buffers).toBe(before.buffers);
    expect(() => recording.replay(x)).toThrow();
  });
});
