import { add, createReferenceBackend, fromArray, keep, scope, type Backend, type Tensor } from '@filigree/core-tensor';
import { beforeEach, describe, expect, it } from 'vitest';

let backend: Backend;

beforeEach(() => {
  backend = createReferenceBackend();
});

const one = (): Tensor => fromArray(backend, [1], [1]);

describe('scope', () => {
  it('disposes what was made inside and keeps what it returns', async () => {
    const sum = scope(() => add(add(one(), one()), one()));
    expect(await sum.read()).toEqual(Float32Array.of(3));
    expect(backend.memory().buffers).toBe(1);
  });

  it('keeps tensors inside returned arrays and plain objects, however deep', () => {
    const { list, named } = scope(() => {
      one();
      return { list: [one(), [one()]], named: { deep: { tensor: one() } }, other: 3, nothing: null };
    });
    expect(list.flat().some((tensor) => tensor.disposed)).toBe(false);
    expect(named.deep.tensor.disposed).toBe(false);
    expect(backend.memory().buffers).toBe(3);
  });

  it('survives a returned object that contains itself', () => {
    const result = scope(() => {
      const loop: { self?: unknown; tensor: Tensor } = { tensor: one() };
      loop.self = loop;
      return loop;
    });
    expect(result.tensor.disposed).toBe(false);
  });

  it('leaves alone what was made outside', () => {
    const outside = one();
    scope(() => {
      add(outside, outside);
    });
    expect(outside.disposed).toBe(false);
    expect(backend.memory().buffers).toBe(1);
  });

  it('hands what an inner scope returns to the outer one', () => {
    const kept = scope(() => {
      const inner = scope(() => one());
      const other = scope(() => one());
      expect(other.disposed).toBe(false);
      return inner;
    });
    expect(kept.disposed).toBe(false);
    expect(backend.memory().buffers).toBe(1);
  });

  it('disposes everything and passes the error on when it throws', () => {
    expect(() =>
      scope(() => {
        one();
        throw new Error('half way');
      }),
    ).toThrow('half way');
    expect(backend.memory().buffers).toBe(0);
  });

  it('is over after an error: later tensors belong to nobody', () => {
    expect(() =>
      scope(() => {
        throw new Error('half way');
      }),
    ).toThrow();
    const later = one();
    scope(() => undefined);
    expect(later.disposed).toBe(false);
  });

  it('does not touch a tensor taken out with keep', () => {
    let cached: Tensor | undefined;
    scope(() => {
      cached = keep(one());
    });
    expect(cached?.disposed).toBe(false);
  });

  it('disposes views without taking the bytes from their source', async () => {
    const source = fromArray(backend, [1, 2], [2]);
    scope(() => {
      source.view([1], 1);
    });
    expect(await source.read()).toEqual(Float32Array.of(1, 2));
  });
});
