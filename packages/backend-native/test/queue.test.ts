import { createNativeBackend } from '@filigree/backend-native';
import { add, empty, fromArray, matmul, mul, narrow, scope, type Tensor } from '@filigree/core-tensor';
import { afterAll, describe, expect, it } from 'vitest';

describe('the queue of the native backend', () => {
  const backend = createNativeBackend({ fallback: 'error', threads: 2 });
  afterAll(() => {
    backend.dispose();
  });
  const scalar = (value: number): Tensor => fromArray(backend, [value], [1]);

  it('runs writes, ops and reads in the order in which they were asked for', async () => {
    const x = scalar(1);
    const reads: Promise<unknown>[] = [];
    const expected: Float32Array[] = [];
    for (let step = 2; step < 60; step++) {
      reads.push(x.read(), add(x, x).read());
      expected.push(Float32Array.of(step - 1), Float32Array.of(2 * (step - 1)));
      backend.write(x.storage, 0, new Uint8Array(Float32Array.of(step).buffer));
    }
    expect(await Promise.all(reads)).toEqual(expected);
  });

  it('takes a copy of what is written', async () => {
    const bytes = new Uint8Array(Float32Array.of(5).buffer);
    const x = scalar(0);
    backend.write(x.storage, 0, bytes);
    bytes.fill(0);
    expect(await x.read()).toEqual(Float32Array.of(5));
  });

  it('keeps what queued work uses until the work is done', async () => {
    const a = fromArray(backend, new Float32Array(1000).fill(3), [1000]);
    const sum = add(a, a);
    a.dispose();
    // Would take the buffer over if it were free already.
    const other = fromArray(backend, new Float32Array(1000).fill(9), [1000]);
    expect((await sum.readNumbers())[999]).toBe(6);
    other.dispose();
    sum.dispose();
  });

  it('has the peak memory of running one op after the other', async () => {
    await backend.sync();
    const fresh = createNativeBackend({ fallback: 'error' });
    const bytes = 4 * 2 ** 18;
    let x = empty(fresh, [2 ** 18], 'f32');
    for (let step = 0; step < 200; step++) {
      const next = mul(x, x);
      x.dispose();
      x = next;
    }
    await fresh.sync();
    expect(fresh.memory().peakBytes).toBeLessThanOrEqual(2 * bytes);
    x.dispose();
    await fresh.sync();
    expect(fresh.memory().liveBytes).toBe(0);
    fresh.dispose();
  });

  it('uses freed memory again and keeps no more than its limit', async () => {
    const fresh = createNativeBackend({ fallback: 'error' });
    for (let round = 0; round < 20; round++) {
      scope(() => {
        for (const size of [100, 2 ** 12, 2 ** 20, 2 ** 23]) empty(fresh, [size], 'u8');
        return undefined;
      });
      await fresh.sync();
    }
    expect(fresh.memory().liveBytes).toBe(0);
    expect(fresh.memory().pooledBytes).toBeGreaterThan(0);
    expect(fresh.memory().pooledBytes).toBeLessThanOrEqual(96 * 2 ** 20);
    fresh.dispose();
  });

  it('is bounded: after ready() most of what was queued has run', async () => {
    const controller = new AbortController();
    let x = scalar(0);
    const one = scalar(1);
    // Far beyond the limit; a later abort can only drop what ready() left in the queue.
    await backend.withSignal(controller.signal, async () => {
      for (let step = 0; step < 60_000; step++) {
        const next = add(x, one);
        x.dispose();
        x = next;
      }
      await backend.ready();
    });
    controller.abort();
    expect(await x.read()).toEqual(Float32Array.of(60_000));
  });

  it('does not let uploads pile up either', async () => {
    const x = empty(backend, [2 ** 24], 'u8');
    const piece = new Uint8Array(2 ** 24);
    const before = process.memoryUsage().rss;
    for (let step = 0; step < 64; step++) {
      piece[0] = step;
      backend.write(x.storage, 0, piece);
      await backend.ready();
    }
    // A gibibyte went through.
    expect(process.memoryUsage().rss - before).toBeLessThan(600 * 2 ** 20);
    expect((await narrow(x, 0, 1).readNumbers())[0]).toBe(63);
    x.dispose();
  });

  it('leaves the event loop free while a kernel runs', async () => {
    const slow = createNativeBackend({ threads: 1, cpu: 'scalar', fallback: 'error' });
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const y = matmul(empty(slow, [400, 400], 'f32'), empty(slow, [400, 400], 'f32'));
    await y.read();
    clearInterval(timer);
    expect(turns).toBeGreaterThan(0);
    slow.dispose();
  });

  it('is a queue per backend: two of them do not wait for each other', async () => {
    const slow = createNativeBackend({ threads: 1, cpu: 'scalar', fallback: 'error' });
    const order: string[] = [];
    const long = matmul(empty(slow, [500, 500], 'f32'), empty(slow, [500, 500], 'f32'))
      .read()
      .then(() => order.push('slow'));
    const short = add(scalar(1), scalar(2))
      .read()
      .then((value) => {
        expect(value).toEqual(Float32Array.of(3));
        order.push('quick');
      });
    await Promise.all([long, short]);
    expect(order).toEqual(['quick', 'slow']);
    slow.dispose();
    expect(await add(scalar(2), scalar(2)).read()).toEqual(Float32Array.of(4));
  });
});
