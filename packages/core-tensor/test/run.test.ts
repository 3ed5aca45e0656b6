import { createNativeBackend } from '@filigree/backend-native';
import {
  AbortError,
  add,
  BackendMismatchError,
  binaryOp,
  cast,
  createReferenceBackend,
  defineOp,
  DisposedError,
  DTypeError,
  empty,
  ExecutionError,
  fromArray,
  matmul,
  MissingKernelError,
  narrow,
  OptionError,
  scope,
  ShapeError,
  writeSlice,
  type Backend,
  type Tensor,
  type TensorMeta,
} from '@filigree/core-tensor';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';

const backends: [string, () => Backend][] = [
  ['reference', createReferenceBackend],
  ['native', () => createNativeBackend({ fallback: 'error' })],
];

const vector = (backend: Backend, values: readonly number[]): Tensor => fromArray(backend, values, [values.length]);

describe.each(backends)('running an op on the %s backend', (_, make) => {
  const backend = make();
  afterAll(() => {
    backend.dispose();
  });

  it('holds no memory for reads that nobody waited for, once it is synced', async () => {
    await backend.sync();
    const before = backend.memory().liveBytes;
    for (let round = 0; round < 20; round++) {
      const read = scope(() => ({ read: add(vector(backend, [1, 2]), vector(backend, [3, 4])).read() })).read;
      await backend.sync();
      expect(backend.memory().liveBytes).toBe(before);
      expect(await read).toEqual(Float32Array.of(4, 6));
    }
  });

  it('refuses wrong arguments on the spot, naming them, and allocates nothing', async () => {
    const other = createReferenceBackend();
    const [a, b] = [vector(backend, [1, 2]), vector(backend, [1, 2, 3])];
    const gone = vector(backend, [1, 2]);
    gone.dispose();
    await backend.sync();
    const before = backend.memory();
    const run =
      (
        inputs: Record<string, Tensor | undefined>,
        attributes: Record<string, string | number> = { kind: 'add' },
      ): (() => unknown) =>
      () =>
        backend.run(binaryOp, inputs, attributes);
    expect(run({ a, b })).toThrow(ShapeError);
    expect(run({ a })).toThrow(/core\/binary: input 'b' is missing/);
    expect(run({ a, b: a, c: a })).toThrow(/unknown input 'c'/);
    expect(run({ a, b: vector(other, [1, 2]) })).toThrow(BackendMismatchError);
    expect(run({ a, b: gone })).toThrow(DisposedError);
    expect(run({ a, b: a }, {})).toThrow(OptionError);
    expect(run({ a, b: a }, { kind: 'plus' })).toThrow(/'kind' is one of add, /);
    expect(run({ a, b: a }, { kind: 'add', bias: 1 })).toThrow(/unknown attribute 'bias'/);
    expect(run({ a, b: cast(a, 'i32') })).toThrow(DTypeError);
    await backend.sync();
    expect(backend.memory().peakBytes).toBeGreaterThanOrEqual(before.peakBytes);
    expect(backend.memory().liveBytes - before.liveBytes).toBeLessThanOrEqual(8);
  });

  it('bumps the version of what is mutated, of the storage and so of every view, and of nothing else', () => {
    const target = vector(backend, [0, 0, 0]);
    const view = narrow(target, 1, 2);
    const source = vector(backend, [5]);
    writeSlice(target, source, { axis: 0, start: 1 });
    writeSlice(view, source, { axis: 0, start: 1 });
    expect([target.storage.version, view.storage.version, source.storage.version]).toEqual([2, 2, 0]);
    add(target, target);
    expect(target.storage.version).toBe(2);
  });

  it('shows a mutation to every view of the storage', async () => {
    const target = vector(backend, [0, 0, 0]);
    const view = narrow(target, 1, 2);
    writeSlice(target, vector(backend, [5]), { axis: 0, start: 1 });
    writeSlice(view, vector(backend, [6]), { axis: 0, start: 1 });
    expect(await target.read()).toEqual(Float32Array.of(0, 5, 6));
  });

  it('gives the signal of withSignal to what is queued inside, nested, and to nothing after', async () => {
    const [outer, inner] = [new AbortController(), new AbortController()];
    const x = vector(backend, [1]);
    backend.withSignal(outer.signal, () => {
      backend.withSignal(inner.signal, () => {
        inner.abort();
        expect(() => add(x, x)).toThrow(AbortError);
      });
      expect(() => add(x, x)).not.toThrow();
      expect(() => {
        backend.withSignal(undefined, () => {
          throw new Error('inside');
        });
      }).toThrow('inside');
      outer.abort();
      expect(() => add(x, x)).toThrow(AbortError);
    });
    expect(await add(x, x).read()).toEqual(Float32Array.of(2));
  });

  it('replays a recorded step with new inputs, and with the results and mutations of calling it', async () => {
    const target = fromArray(backend, new Float32Array(2), [2]);
    const step = (x: Tensor, y: Tensor): Tensor =>
      scope(() => {
        const sum = add(x, y);
        writeSlice(target, sum, { axis: 0, start: 1 });
        return add(sum, sum);
      });
    const recording = backend.record(step);
    for (let round = 0; round < 4; round++) {
      const [x, y] = [vector(backend, [round]), vector(backend, [10])];
      expect(await recording.replay(x, y).read()).toEqual(Float32Array.of(2 * (10 + round)));
      expect(await target.read()).toEqual(Float32Array.of(0, 10 + round));
      expect(target.storage.version).toBe(2 * round + 1);
      expect(await step(x, y).read()).toEqual(Float32Array.of(2 * (10 + round)));
    }
    recording.dispose();
  });

  it('computes in f64', async () => {
    const third = fromArray(backend, [1 / 3, 2 / 3], [1, 2], 'f64');
    expect(await third.read()).toEqual(Float64Array.of(1 / 3, 2 / 3));
    const product = matmul(third, third, { transposeB: true });
    expect(product.dtype).toBe('f64');
    expect((await product.readNumbers())[0]).toBeCloseTo(5 / 9, 15);
    expect(await cast(cast(fromArray(backend, [0.1], [1], 'f64'), 'f32'), 'f64').read()).toEqual(
      Float64Array.of(Math.fround(0.1)),
    );
    expect(await cast(fromArray(backend, [2 ** 40 + 0.5], [1], 'f64'), 'i32').read()).toEqual(Int32Array.of(2 ** 31 - 1));
  });

  it('keeps i64 as storage: it is moved and read, and no op computes with it', async () => {
    const large = fromArray(backend, BigInt64Array.of(2n ** 62n, -1n, 7n), [3]);
    expect(await narrow(large, 1, 2).read()).toEqual(BigInt64Array.of(-1n, 7n));
    expect(await (await large.toBackend(createReferenceBackend())).read()).toEqual(BigInt64Array.of(2n ** 62n, -1n, 7n));
    expect(() => cast(large, 'f64')).toThrow(DTypeError);
    expect(() => add(large, large)).toThrow(DTypeError);
  });

  it('collects a profile entry per op that ran, and none outside of a profile', async () => {
    const x = vector(backend, [1]);
    add(x, x);
    const profile = backend.profile();
    add(x, x);
    add(add(x, x), x);
    const entries = await profile.stop();
    expect(entries.map(({ op }) => op)).toEqual(['core/binary', 'core/binary', 'core/binary']);
    for (const { milliseconds } of entries) expect(milliseconds).toBeGreaterThanOrEqual(0);
    add(x, x);
    const second = backend.profile();
    expect(await second.stop()).toEqual([]);
  });
});

describe('an op without a native kernel', () => {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  /** y = 2x, and x is set to −x in place. */
  const twice = defineOp({
    name: 'test/twice',
    inputs: ['x'],
    outputs: ['y'],
    attributes: {},
    mutates: ['x'],
    infer: ({ x }: { x: TensorMeta }) => ({ y: x }),
    reference({ x, y }) {
      for (let index = 0; index < y.data.length; index++) {
        if (x.data[index] > 100) throw new Error('too large');
        y.data[index] = 2 * x.data[index];
        x.data[index] = -x.data[index];
      }
    },
  });

  it("throws under fallback 'error'", () => {
    const backend = createNativeBackend({ fallback: 'error' });
    expect(() => twice({ x: vector(backend, [1]) }, {})).toThrow(MissingKernelError);
    backend.dispose();
  });

  it('runs the reference with one warning, in order with the work around it', async () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    const backend = createNativeBackend();
    const profile = backend.profile();
    const x = vector(backend, [1, 2]);
    const doubled = add(x, x);
    const { y } = twice({ x: doubled }, {});
    const sum = add(y, doubled);
    const again = twice({ x: sum }, {}).y;
    x.dispose();
    const written = vector(backend, [9]);
    expect(await again.read()).toEqual(Float32Array.of(4, 8));
    expect(await sum.read()).toEqual(Float32Array.of(-2, -4));
    expect(await written.read()).toEqual(Float32Array.of(9));
    expect((await profile.stop()).map(({ op, kernel }) => `${op} ${kernel}`).sort()).toEqual([
      'core/binary native',
      'core/binary native',
      'test/twice reference',
      'test/twice reference',
    ]);
    expect(warn).toHaveBeenCalledTimes(1);
    expect(warn.mock.calls[0][0]).toContain('test/twice');
    backend.dispose();
  });

  it('poisons its results when the reference throws, and sync reports it', async () => {
    vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    const backend = createNativeBackend();
    const x = vector(backend, [1, 200]);
    const { y } = twice({ x }, {});
    const dependent = add(y, y);
    const other = vector(backend, [3]);
    for (const tensor of [y, dependent, x]) await expect(tensor.read()).rejects.toThrow(/^test\/twice on \[2\]: too large/);
    await expect(twice({ x }, {}).y.read()).rejects.toThrow(ExecutionError);
    expect(await add(other, other).read()).toEqual(Float32Array.of(6));
    await expect(backend.sync()).rejects.toThrow('too large');
    await backend.sync();
    backend.dispose();
  });

  it('is not run once its signal has fired', async () => {
    vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    const backend = createNativeBackend();
    const controller = new AbortController();
    const { y } = backend.withSignal(controller.signal, () => twice({ x: vector(backend, [1]) }, {}));
    controller.abort();
    await expect(y.read()).rejects.toThrow(AbortError);
    await backend.sync();
    backend.dispose();
  });

  it('leaves no memory behind', async () => {
    vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    const backend = createNativeBackend();
    const x = vector(backend, [1, 2]);
    const { y } = twice({ x }, {});
    x.dispose();
    y.dispose();
    await backend.sync();
    expect(backend.memory()).toMatchObject({ liveBytes: 0, buffers: 0 });
    backend.dispose();
  });
});

describe('offsets beyond 4 GiB', () => {
  it('reach the right bytes of a buffer, whose untouched pages cost nothing', async () => {
    const backend = createNativeBackend({ fallback: 'error' });
    const giant = empty(backend, [5, 2 ** 30], 'u8');
    const end = narrow(giant, 4, 1);
    backend.write(giant.storage, 5 * 2 ** 30 - 3, Uint8Array.of(7, 8, 9));
    const tail = end.view([3], 5 * 2 ** 30 - 3);
    expect(await tail.read()).toEqual(Uint8Array.of(7, 8, 9));
    expect(await cast(tail, 'f32').read()).toEqual(Float32Array.of(7, 8, 9));
    backend.dispose();
  });
});
