import { createNativeBackend } from '@filigree/backend-native';
import {
  createReferenceBackend,
  DisposedError,
  DTypeError,
  fromArray,
  OptionError,
  Random,
  ShapeError,
  type Backend,
  type Tensor,
} from '@filigree/core-tensor';
import { KvCapacityError, StreamCache, type RawKvType } from '@filigree/kv-cache';
import { afterAll, describe, expect, it } from 'vitest';
import { append, emptyOracle, pageSize, sizes, state, type Expected } from './support/stream-oracle.js';

const backends: [string, () => Backend][] = [
  ['reference', createReferenceBackend],
  ['native', () => createNativeBackend({ fallback: 'error' })],
];

describe.each(backends)('streams on the %s backend', (_, make) => {
  const backend = make();
  afterAll(() => {
    backend.dispose();
  });
  const make4 = (pages = 8): Expected =>
    emptyOracle(new StreamCache(backend, { ...sizes, capacity: pages * pageSize, pageSize }));
  const zeros = (shape: readonly number[], dtype: RawKvType = 'f32'): Tensor =>
    fromArray(backend, new Float32Array(shape.reduce((a, b) => a * b, 1)), shape, dtype);

  it('refuse what does not fit and are as before', () => {
    const held = make4();
    append(held, 0, new Random(5), 3);
    append(held, 1, new Random(6), 3);
    const { cache } = held;
    const before = state(held);
    const [k, v] = [zeros([1, 2, 4]), zeros([1, 2, 2])];
    const gone = zeros([1, 2, 2]);
    gone.dispose();
    const empty = make4();
    const [layer, values] = [zeros([2, 3, 4]), zeros([2, 3, 2])];
    const refusals: [() => void, new (message: string) => Error][] = [
      [
        () => {
          cache.append(0, { k: v, v: k });
        },
        ShapeError,
      ],
      [
        () => {
          cache.append(0, { k, v: zeros([2, 2, 2]) });
        },
        ShapeError,
      ],
      [
        () => {
          cache.append(0, { k: zeros([2, 4]), v });
        },
        ShapeError,
      ],
      [
        () => {
          cache.append(0, { k: zeros([1, 2, 4], 'f16'), v });
        },
        DTypeError,
      ],
      [
        () => {
          cache.append(0, { k, v: gone });
        },
        DisposedError,
      ],
      [
        () => {
          cache.append(2, { k, v });
        },
        OptionError,
      ],
      [
        () => {
          cache.append(0.5, { k, v });
        },
        OptionError,
      ],
      [
        () => {
          cache.keep(0, 2, []);
        },
        OptionError,
      ],
      [
        () => {
          cache.keep(-1, 0, []);
        },
        OptionError,
      ],
      [
        () => {
          cache.keep(0, 0, [1, 0]);
        },
        OptionError,
      ],
      [
        () => {
          cache.keep(0, 0, [1, 1]);
        },
        OptionError,
      ],
      [
        () => {
          cache.keep(0, 0, [3]);
        },
        OptionError,
      ],
      [
        () => {
          cache.keep(0, 0, [NaN]);
        },
        OptionError,
      ],
      [
        () => {
          cache.keep(0, 0, [-1, 0]);
        },
        OptionError,
      ],
      [
        () => {
          cache.truncate(-1);
        },
        OptionError,
      ],
      [
        () => {
          cache.truncate(0.5);
        },
        OptionError,
      ],
      [() => cache.reserve(0), OptionError],
      [() => cache.reserve(Infinity), OptionError],
      [() => cache.reserve(1000), KvCapacityError],
      [() => cache.positions(0, NaN), OptionError],
      [() => cache.view(7), OptionError],
      [
        () => {
          cache.fill(0, { k: layer, v: values }, [[], []]);
        },
        OptionError,
      ],
      [
        () => {
          empty.cache.fill(0, { k: layer, v: values }, [[]]);
        },
        OptionError,
      ],
      [
        () => {
          empty.cache.fill(0, { k: layer, v: values }, [[0], [2, 1]]);
        },
        OptionError,
      ],
      [
        () => {
          empty.cache.fill(0, { k: layer, v: values }, [[0], [3]]);
        },
        OptionError,
      ],
      [
        () => {
          empty.cache.fill(0, { k: layer, v: values }, [[0], [1]], { places: { positions: Int32Array.of(1, 2), end: 9 } });
        },
        OptionError,
      ],
      [
        () => {
          empty.cache.fill(0, { k: layer, v: values }, [[0], [1]], { places: { positions: Int32Array.of(1, 5, 5), end: 9 } });
        },
        OptionError,
      ],
      [
        () => {
          empty.cache.fill(0, { k: layer, v: values }, [[0], [1]], { places: { positions: Int32Array.of(3, 2, 8), end: 9 } });
        },
        OptionError,
      ],
      [
        () => {
          empty.cache.fill(0, { k: layer, v: values }, [[0], [1]], { places: { positions: Int32Array.of(1, 2, 9), end: 9 } });
        },
        OptionError,
      ],
      [
        () => {
          empty.cache.fill(0, { k: values, v: layer }, [[0], [1]]);
        },
        ShapeError,
      ],
      [
        () => {
          empty.cache.fill(0, { k: layer, v: zeros([2, 2, 2]) }, [[0], [1]]);
        },
        ShapeError,
      ],
      [
        () => {
          empty.cache.fill(0, { k: zeros([3, 3, 4]), v: values }, [[0], [1]]);
        },
        ShapeError,
      ],
      [
        () => {
          empty.cache.fill(0, { k: fromArray(backend, new Int32Array(24), [2, 3, 4], 'i32'), v: values }, [[0], [1]]);
        },
        DTypeError,
      ],
    ];
    for (const [use, type] of refusals) expect(use).toThrow(type);
    expect(state(held)).toEqual(before);
    expect(empty.cache.pool.freePages).toBe(8);
    cache.dispose();
    empty.cache.dispose();
  });

  it('are used no more after dispose, which may be called twice', () => {
    const { cache } = make4();
    cache.dispose();
    cache[Symbol.dispose]();
    const uses = [
      () => cache.view(0),
      () => cache.fork(),
      () => new StreamCache(backend, { of: cache }),
      () => cache.reserve(1),
      () => cache.positions(0, 0),
      () => cache.length(0),
      () => {
        cache.truncate(0);
      },
      () => {
        cache.keep(0, 0, []);
      },
      () => {
        cache.append(0, { k: zeros([1, 2, 4]), v: zeros([1, 2, 2]) });
      },
      () => {
        cache.fill(0, { k: zeros([2, 1, 4]), v: zeros([2, 1, 2]) }, [[], []]);
      },
    ];
    for (const use of uses) expect(use).toThrow(DisposedError);
  });

  it.each([
    ['no layers', { layers: 0 }],
    ['half a head', { kvHeads: 0.5 }],
    ['no channels', { kDim: 0 }],
    ['channels that do not pair in f16', { vDim: 3, dtype: 'f16' as const }],
    ['no room', { capacity: 0 }],
  ])('refuse %s', (_name, options) => {
    const { liveBytes } = backend.memory();
    expect(() => new StreamCache(backend, { ...sizes, capacity: 8, ...options })).toThrow(OptionError);
    expect(backend.memory().liveBytes).toBe(liveBytes);
  });
});
