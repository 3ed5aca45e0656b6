import {
  createReferenceBackend,
  DisposedError,
  empty,
  fromArray,
  fromBytes,
  narrow,
  reshape,
  ShapeError,
  Tensor,
  transferChunkBytes,
  type Backend,
} from '@filigree/core-tensor';
import { beforeEach, describe, expect, it, vi } from 'vitest';

let backend: Backend;

beforeEach(() => {
  backend = createReferenceBackend();
});

describe('a tensor', () => {
  it('reads back the values it was made from', async () => {
    const tensor = fromArray(backend, [1, 2, 3, 4, 5, 6], [2, 3]);
    expect(tensor.dtype).toBe('f32');
    expect(await tensor.read()).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
  });

  it('is i64 when made from a BigInt64Array, and reads numbers on request', async () => {
    const tensor = fromArray(backend, BigInt64Array.of(2n ** 40n, -3n), [2]);
    expect(tensor.dtype).toBe('i64');
    expect(await tensor.readNumbers()).toEqual(Float64Array.of(2 ** 40, -3));
  });

  it('rounds f16 and bf16 once and reads them widened', async () => {
    expect(await fromArray(backend, [0.1], [1], 'f16').read()).toEqual(Float32Array.of(0.0999755859375));
    expect(await fromArray(backend, [0.1], [1], 'bf16').read()).toEqual(Float32Array.of(0.10009765625));
  });

  it('copies the host values before the call returns', async () => {
    const values = Float32Array.of(1, 2);
    const bytes = Uint8Array.of(7, 8);
    const [fromValues, fromRaw] = [fromArray(backend, values, [2]), fromBytes(backend, bytes, [2], 'u8')];
    values[0] = 9;
    bytes[0] = 9;
    expect(await fromValues.read()).toEqual(Float32Array.of(1, 2));
    expect(await fromRaw.read()).toEqual(Uint8Array.of(7, 8));
  });

  it('may be empty or a scalar', async () => {
    expect(await fromArray(backend, [], [0, 3]).read()).toEqual(new Float32Array(0));
    expect(await fromArray(backend, [4], []).read()).toEqual(Float32Array.of(4));
  });

  it('has a shape that cannot be changed, neither through it nor through the array it was given', () => {
    const shape = [2];
    const tensor = fromArray(backend, [1, 2], shape);
    shape[0] = 5;
    expect(tensor.shape).toEqual([2]);
    expect(Object.isFrozen(tensor.shape)).toBe(true);
  });

  it.each([
    ['too few values', () => fromArray(backend, [1], [2])],
    ['too many bytes', () => fromBytes(backend, new Uint8Array(5), [1], 'f32')],
    ['a negative dimension', () => empty(backend, [-1], 'f32')],
    ['a fractional dimension', () => empty(backend, [0.5], 'f32')],
    ['a dimension beyond safe integers', () => empty(backend, [2 ** 53], 'f32')],
    ['two negative dimensions that multiply to the count', () => fromBytes(backend, new Uint8Array(4), [-2, -2], 'u8')],
  ])('refuses %s', (_, make) => {
    expect(make).toThrow(ShapeError);
  });

  it('refuses a view beyond its buffer, and one before it', () => {
    const { storage } = fromArray(backend, [1, 2], [2]);
    expect(() => new Tensor(storage.retain(), [2], 'f32', 1)).toThrow(ShapeError);
    expect(() => new Tensor(storage.retain(), [1], 'f32', -1)).toThrow(ShapeError);
    expect(() => new Tensor(storage.retain(), [1], 'f32', 0.5)).toThrow(ShapeError);
  });
});

describe('views', () => {
  it('share the bytes of what they view', async () => {
    const whole = fromArray(backend, [1, 2, 3, 4, 5, 6], [3, 2]);
    const before = backend.memory().liveBytes;
    expect(await reshape(whole, [2, 3]).read()).toEqual(await whole.read());
    expect(await narrow(whole, 1, 2).read()).toEqual(Float32Array.of(3, 4, 5, 6));
    expect(await narrow(narrow(whole, 1, 2), 1, 1).read()).toEqual(Float32Array.of(5, 6));
    expect(backend.memory().liveBytes).toBe(before);
  });

  it('may be empty at the end', async () => {
    expect(await narrow(fromArray(backend, [1, 2], [2]), 2, 0).read()).toEqual(new Float32Array(0));
  });

  it('outlive the tensor they were made from', async () => {
    const whole = fromArray(backend, [1, 2, 3], [3]);
    const last = narrow(whole, 2, 1);
    whole.dispose();
    expect(await last.read()).toEqual(Float32Array.of(3));
    last.dispose();
    expect(backend.memory().liveBytes).toBe(0);
  });

  it('resolve one -1 in a shape', () => {
    const x = fromArray(backend, [1, 2, 3, 4, 5, 6], [6]);
    expect(reshape(x, [2, -1]).shape).toEqual([2, 3]);
    expect(reshape(fromArray(backend, [], [0]), [0, 4]).shape).toEqual([0, 4]);
  });

  it.each([[[4]], [[-1, -1]], [[-1, 4]], [[0, -1]], [[-2, -3]], [[-1, 0]]])('refuse to become %j', (shape) => {
    expect(() => reshape(fromArray(backend, [1, 2, 3, 4, 5, 6], [6]), shape)).toThrow(ShapeError);
  });

  it.each([
    [-1, 1],
    [0, 4],
    [3, 1],
    [0.5, 1],
    [0, -1],
    [NaN, 1],
  ])('refuse rows from %s, %s of them, of three', (start, length) => {
    expect(() => narrow(fromArray(backend, [1, 2, 3], [3]), start, length)).toThrow(ShapeError);
  });

  it('refuse to narrow a scalar', () => {
    expect(() => narrow(fromArray(backend, [1], []), 0, 1)).toThrow(ShapeError);
  });
});

describe('disposal', () => {
  it('returns the memory, once', () => {
    const [a, b] = [fromArray(backend, [1, 2], [2]), fromArray(backend, [3, 4, 5], [3])];
    a.dispose();
    a.dispose();
    expect(backend.memory()).toMatchObject({ liveBytes: 12, buffers: 1, peakBytes: 20 });
    b[Symbol.dispose]();
    expect(backend.memory()).toMatchObject({ liveBytes: 0, buffers: 0 });
  });

  it('makes later use throw a typed error', async () => {
    const tensor = fromArray(backend, [1], [1]);
    tensor.dispose();
    expect(tensor.disposed).toBe(true);
    await expect(tensor.read()).rejects.toThrow(DisposedError);
    expect(() => reshape(tensor, [1, 1])).toThrow(DisposedError);
    expect(() => narrow(tensor, 0, 1)).toThrow(DisposedError);
    await expect(tensor.toBackend(createReferenceBackend())).rejects.toThrow(DisposedError);
    await expect(tensor.toBackend(backend)).rejects.toThrow(DisposedError);
  });

  it('does not take the bytes from a read in progress', async () => {
    const tensor = fromArray(backend, [1, 2], [2]);
    const reading = tensor.read();
    tensor.dispose();
    expect(await reading).toEqual(Float32Array.of(1, 2));
    expect(backend.memory().liveBytes).toBe(0);
  });

  it('does not take the bytes from a move in progress', async () => {
    const tensor = fromArray(backend, [1, 2], [2]);
    const moving = tensor.toBackend(createReferenceBackend());
    tensor.dispose();
    expect(await (await moving).read()).toEqual(Float32Array.of(1, 2));
  });
});

describe('moving between backends', () => {
  it('copies to another backend', async () => {
    const other = createReferenceBackend();
    const tensor = narrow(fromArray(backend, [1, 2, 3], [3]), 1, 2);
    const moved = await tensor.toBackend(other);
    expect(moved.backend).toBe(other);
    expect(await moved.read()).toEqual(Float32Array.of(2, 3));
  });

  it('shares storage on the same backend', async () => {
    const tensor = fromArray(backend, [1], [1]);
    const same = await tensor.toBackend(backend);
    expect(same.storage).toBe(tensor.storage);
    expect(same).not.toBe(tensor);
  });

  it('leaves nothing behind when the copy fails', async () => {
    const other = createReferenceBackend();
    const tensor = fromArray(backend, [1], [1]);
    vi.spyOn(backend, 'read').mockRejectedValue(new Error('gone'));
    await expect(tensor.toBackend(other)).rejects.toThrow('gone');
    expect(other.memory().liveBytes).toBe(0);
  });

  it('goes in pieces that one JavaScript buffer holds easily', async () => {
    const size = transferChunkBytes + 5;
    const bytes = new Uint8Array(size);
    bytes[transferChunkBytes - 1] = 1;
    bytes[transferChunkBytes] = 2;
    bytes[size - 1] = 3;
    const reads = vi.spyOn(backend, 'read');
    const other = createReferenceBackend();
    const writes = vi.spyOn(other, 'write');
    const moved = await fromBytes(backend, bytes, [size], 'u8').toBackend(other);
    expect(reads.mock.calls.map(([, offset, length]) => [offset, length])).toEqual([
      [0, transferChunkBytes],
      [transferChunkBytes, 5],
    ]);
    expect(writes.mock.calls.map(([, offset, data]) => [offset, data.length])).toEqual([
      [0, transferChunkBytes],
      [transferChunkBytes, 5],
    ]);
    const back = await moved.readBytes();
    expect([back[transferChunkBytes - 1], back[transferChunkBytes], back[size - 1]]).toEqual([1, 2, 3]);
  });
});
