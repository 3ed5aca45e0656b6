import { createNativeBackend, type NativeBackend } from '@filigree/backend-native';
import {
  AbortError,
  add,
  createReferenceBackend,
  DisposedError,
  empty,
  ExecutionError,
  fromArray,
  gatherRows,
  matmul,
  narrow,
  OptionError,
  OutOfMemoryError,
  reshape,
  Storage,
  Tensor,
  writeSlice,
  type Backend,
} from '@filigree/core-tensor';
import { appendOp } from '@filigree/kv-cache';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const numbers = (backend: Backend, values: readonly number[]): Tensor => fromArray(backend, values, [values.length]);

/** Takes row 5 of three: an id is data, so it is wrong only when the op runs. */
function missingRow(backend: Backend): Tensor {
  return gatherRows(fromArray(backend, [1, 2, 3, 4, 5, 6], [3, 2]), fromArray(backend, [5], [1], 'i32'));
}

describe.each([
  ['native', (): Backend => createNativeBackend({ fallback: 'error' })],
  ['reference', createReferenceBackend],
])('a failure during execution on the %s backend', (_, make) => {
  const backend = make();
  afterAll(() => {
    backend.dispose();
  });

  it('rejects the read of what depends on it with the op and its shapes, and of nothing else', async () => {
    const wrong = missingRow(backend);
    const dependent = add(wrong, wrong);
    const other = add(numbers(backend, [1, 2]), numbers(backend, [3, 4]));
    for (const tensor of [wrong, dependent, reshape(dependent, [2])]) {
      await expect(tensor.read()).rejects.toThrow(ExecutionError);
      await expect(tensor.read()).rejects.toThrow(/^core\/gather-rows on \[3, 2\], \[1\]: .*id 5/);
    }
    expect(await other.read()).toEqual(Float32Array.of(4, 6));
    await expect(backend.sync()).rejects.toThrow('core/gather-rows');
  });

  it('is reported by sync once, and the first of several', async () => {
    missingRow(backend);
    const pages = (): Tensor => fromArray(backend, [0, 0], [1, 1, 1, 2]);
    const row = fromArray(backend, [1, 2], [1, 1, 2]);
    appendOp({ keyPages: pages(), valuePages: pages(), k: row, v: row, slots: fromArray(backend, [9], [1], 'i32') }, {});
    await backend.ready();
    await expect(backend.sync()).rejects.toThrow('core/gather-rows');
    await backend.sync();
  });

  it('poisons what it was to change in place', async () => {
    const pages = fromArray(backend, [0, 0], [1, 1, 1, 2]);
    const other = fromArray(backend, [0, 0], [1, 1, 1, 2]);
    const row = fromArray(backend, [1, 2], [1, 1, 2]);
    appendOp({ keyPages: pages, valuePages: other, k: row, v: row, slots: fromArray(backend, [-1], [1], 'i32') }, {});
    await expect(pages.read()).rejects.toThrow(
      /^kv-cache\/append on \[1, 1, 1, 2\], \[1, 1, 1, 2\], \[1, 1, 2\], \[1, 1, 2\], \[1\]: /,
    );
    await expect(row.read()).resolves.toEqual(Float32Array.of(1, 2));
    await expect(backend.sync()).rejects.toThrow('kv-cache/append');
  });

  it('leaves the memory as it was once its tensors are gone', async () => {
    await backend.sync();
    const before = backend.memory();
    const table = fromArray(backend, [1, 2, 3, 4, 5, 6], [3, 2]);
    const ids = fromArray(backend, [5], [1], 'i32');
    const wrong = gatherRows(table, ids);
    await expect(wrong.read()).rejects.toThrow();
    for (const tensor of [wrong, table, ids]) tensor.dispose();
    await backend.sync().catch(() => undefined);
    expect(backend.memory()).toMatchObject({ liveBytes: before.liveBytes, buffers: before.buffers });
  });

  it('throws on the spot after dispose', async () => {
    const gone = make();
    const tensor = numbers(gone, [1]);
    gone.dispose();
    gone.dispose();
    for (const use of [
      () => gone.allocate(4),
      () => add(tensor, tensor),
      () => gone.profile(),
      () => {
        gone.write(tensor.storage, 0, new Uint8Array(4));
      },
    ])
      expect(use).toThrow(DisposedError);
    for (const wait of [gone.ready(), gone.sync(), tensor.read()]) await expect(wait).rejects.toThrow(DisposedError);
    tensor.dispose();
    expect(gone.memory()).toMatchObject({ liveBytes: 0, buffers: 0 });
  });
});

describe('an abort token on the native backend', () => {
  const backend = createNativeBackend({ fallback: 'error', threads: 1, cpu: 'scalar' });
  afterAll(() => {
    backend.dispose();
  });
  /** Long enough that an abort right after it comes while it runs. */
  const busy = (): Tensor => matmul(empty(backend, [400, 400], 'f32'), empty(backend, [400, 400], 'f32'));

  it('drops what has not started, and the backend goes on', async () => {
    const controller = new AbortController();
    const first = busy();
    const dropped = backend.withSignal(controller.signal, () => {
      const tensor = add(first, first);
      return [tensor, add(tensor, tensor)];
    });
    backend.flush();
    controller.abort(new Error('enough'));
    for (const tensor of dropped) await expect(tensor.read()).rejects.toThrow(AbortError);
    // What depends on dropped work is dropped too, with or without a token of its own.
    await expect(add(dropped[0], first).read()).rejects.toThrow(AbortError);
    await expect(first.read()).resolves.toHaveLength(160_000);
    expect(await add(numbers(backend, [1]), numbers(backend, [2])).read()).toEqual(Float32Array.of(3));
    // Nobody's sync is to hear of what somebody else called off.
    await backend.sync();
  });

  it('lets nothing be queued once it has fired', () => {
    const signal = AbortSignal.abort();
    expect(() => backend.withSignal(signal, () => busy())).toThrow(AbortError);
    expect(() => backend.run(matmulLike(), {}, {}, { signal })).toThrow(AbortError);
  });

  it('concerns its own work alone', async () => {
    const [one, two] = [new AbortController(), new AbortController()];
    const first = busy();
    const dropped = backend.withSignal(one.signal, () => add(first, first));
    const kept = backend.withSignal(two.signal, () => add(first, first));
    backend.flush();
    one.abort();
    await expect(dropped.read()).rejects.toThrow(AbortError);
    await expect(kept.read()).resolves.toHaveLength(160_000);
  });

  function matmulLike(): Parameters<Backend['run']>[0] {
    return { ...(matmul as unknown as Parameters<Backend['run']>[0]), name: 'test/never' };
  }
});

describe('an argument that is written and overlaps another', () => {
  it('is refused by the stream, so that no kernel sees it', async () => {
    const backend = createNativeBackend({ fallback: 'error' });
    const x = numbers(backend, [1, 2, 3, 4]);
    writeSlice(x, narrow(x, 1, 2), { axis: 0, start: 0 });
    await expect(x.read()).rejects.toThrow(/^core\/write-slice on \[4\], \[2\]: an argument that is written overlaps another/);
    const y = numbers(backend, [1, 2, 3, 4]);
    writeSlice(narrow(y, 0, 2), narrow(y, 2, 2), { axis: 0, start: 0 });
    expect(await y.read()).toEqual(Float32Array.of(3, 4, 3, 4));
    backend.dispose();
  });
});

describe('memory that is not there', () => {
  it('is an OutOfMemoryError of the tensor, and the backend goes on', async () => {
    const backend = createNativeBackend({ fallback: 'error' });
    const huge = empty(backend, [2 ** 50], 'u8');
    await expect(backend.read(huge.storage, 0, 1)).rejects.toThrow(OutOfMemoryError);
    huge.dispose();
    expect(await add(numbers(backend, [1]), numbers(backend, [2])).read()).toEqual(Float32Array.of(3));
    await expect(backend.sync()).rejects.toThrow(OutOfMemoryError);
    expect(backend.memory().liveBytes).toBeLessThan(64);
    backend.dispose();
  });
});

describe('dispose while work is queued', () => {
  it('finishes reads that were asked for', async () => {
    const backend = createNativeBackend({ fallback: 'error', threads: 2 });
    let tensor = numbers(backend, [1]);
    for (let step = 0; step < 300; step++) tensor = add(tensor, tensor);
    const read = matmul(empty(backend, [200, 200], 'f32'), empty(backend, [200, 200], 'f32')).read();
    const sum = tensor.read();
    backend.dispose();
    await expect(read).resolves.toHaveLength(40_000);
    await expect(sum).resolves.toEqual(Float32Array.of(Infinity));
  });
});

describe('mapFile', () => {
  const folder = mkdtempSync(join(tmpdir(), 'filigree-map-'));
  const file = join(folder, 'numbers');
  let backend: NativeBackend;
  beforeAll(() => {
    backend = createNativeBackend({ fallback: 'error' });
    writeFileSync(file, new Uint8Array(Float32Array.from({ length: 3000 }, (_, index) => index).buffer));
  });
  afterAll(() => {
    backend.dispose();
    rmSync(folder, { recursive: true });
  });

  function mapped(path: string, byteOffset: number, bytes: number): Tensor {
    const handle = backend.mapFile(path, byteOffset, bytes);
    if (handle === undefined) throw new Error('the native backend maps files');
    return new Tensor(new Storage(backend, handle, bytes), [bytes / 4], 'f32');
  }

  it('gives the bytes of the range, at any offset', async () => {
    for (const first of [0, 1, 1023, 1025]) {
      const tensor = mapped(file, 4 * first, 8);
      expect(await tensor.read()).toEqual(Float32Array.of(first, first + 1));
      expect(await add(tensor, tensor).read()).toEqual(Float32Array.of(2 * first, 2 * first + 2));
      tensor.dispose();
    }
  });

  it('reaches beyond 4 GiB of a sparse file', async () => {
    const sparse = join(folder, 'sparse');
    const handle = openSync(sparse, 'w');
    const far = 5 * 2 ** 30;
    writeSync(handle, new Uint8Array(Float32Array.of(1, 2, 3).buffer), 0, 12, far);
    closeSync(handle);
    const near = mapped(sparse, far, 12);
    expect(await add(near, near).read()).toEqual(Float32Array.of(2, 4, 6));
    const whole = mapped(sparse, 0, far + 12);
    expect(await narrow(whole, far / 4 - 1, 4).read()).toEqual(Float32Array.of(0, 1, 2, 3));
    near.dispose();
    whole.dispose();
  });

  it('counts as mapped, not as allocated, and goes with its tensor', async () => {
    await backend.sync();
    const before = backend.memory();
    const tensor = mapped(file, 0, 12_000);
    expect(backend.memory().mappedBytes - before.mappedBytes).toBe(12_000);
    tensor.dispose();
    expect(backend.memory()).toMatchObject({ liveBytes: before.liveBytes, mappedBytes: before.mappedBytes });
  });

  it('reads from the file again after its pages were dropped', async () => {
    const tensor = mapped(file, 0, 12_000);
    await tensor.read();
    backend.discardPages(tensor);
    expect((await tensor.readNumbers())[2999]).toBe(2999);
    tensor.dispose();
  });

  it.runIf(process.platform === 'linux')('drops the pages of a range that begins inside of one', async () => {
    const large = join(folder, 'large');
    writeFileSync(large, new Uint8Array(2 ** 20));
    /** KiB of the file that this process holds. */
    const resident = (): number => {
      const regions = readFileSync('/proc/self/smaps', 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
      const sizes = regions.filter((region) => region.includes(large)).map((region) => /^Rss: +(\d+) kB$/m.exec(region)?.[1]);
      return sizes.reduce((sum, size) => sum + Number(size), 0);
    };
    const tensor = mapped(large, 32, 2 ** 20 - 32);
    await tensor.read();
    expect(resident()).toBeGreaterThan(1000);
    backend.discardPages(tensor);
    await backend.sync();
    expect(resident()).toBe(0);
    tensor.dispose();
  });

  it('cannot be written', async () => {
    const tensor = mapped(file, 0, 8);
    backend.write(tensor.storage, 0, new Uint8Array(8).fill(7));
    expect(await tensor.read()).toEqual(Float32Array.of(0, 1));
    tensor.dispose();
  });

  it.each([
    ['a file that is not there', () => join(folder, 'nothing'), 0, 4, 'nothing'],
    ['a range beyond the end', () => file, 11_996, 8, '12000 bytes'],
    ['a range that begins beyond the end', () => file, 2 ** 52, 8, '12000 bytes'],
    ['a folder', () => folder, 0, 4, 'map'],
  ])('rejects the read of %s with what is wrong', async (_, path, offset, bytes, expected) => {
    const tensor = mapped(path(), offset, bytes);
    await expect(tensor.read()).rejects.toThrow(ExecutionError);
    await expect(tensor.read()).rejects.toThrow(expected);
    tensor.dispose();
    await backend.sync().catch(() => undefined);
  });

  it.each([
    [-4, 4],
    [0, -4],
    [0.5, 4],
    [NaN, 4],
    [0, 2 ** 53],
  ])('refuses %s, %s on the spot', (offset, bytes) => {
    expect(() => backend.mapFile(file, offset, bytes)).toThrow(OptionError);
  });
});
