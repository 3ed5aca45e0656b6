import { createNativeBackend } from '@filigree/backend-native';
import {
  createReferenceBackend,
  FiligreeError,
  fromArray,
  OptionError,
  Random,
  scope,
  type Backend,
  type Tensor,
} from '@filigree/core-tensor';
import { KvCapacityError, saveKv, StreamCache } from '@filigree/kv-cache';
import { attention } from '@filigree/sparse-attention';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { append, emptyOracle, fill, pageSize, sizes, state, type Expected } from './support/stream-oracle.js';
import { rotate } from './support/stream-edits-oracle.js';

const backends: [string, () => Backend][] = [
  ['reference', createReferenceBackend],
  ['native', () => createNativeBackend({ fallback: 'error' })],
];

describe.each(backends)('entries of a stream on the %s backend', (_, make) => {
  const backend = make();
  afterAll(() => {
    backend.dispose();
  });

  const held = (pages = 40, dtype: 'f32' | 'f16' = 'f32'): Expected =>
    emptyOracle(new StreamCache(backend, { ...sizes, capacity: pages * pageSize, pageSize, dtype }));
  const normals = (random: Random, shape: readonly number[]): Tensor =>
    fromArray(
      backend,
      Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.nextNormal()),
      shape,
    );

  /** Both layers appended to. */
  function step(to: Expected, random: Random, count: number): void {
    for (let layer = 0; layer < sizes.layers; layer++) append(to, layer, random, count);
  }

  /** Attention of queries [Hk, n, 1, D] over a layer. */
  async function attended({ cache }: Expected, q: Tensor): Promise<readonly number[]> {
    const { k, v, table, lengths, bias } = cache.view(0);
    const { o } = scope(() =>
      attention(q, k, v, { table, bias, lengths: fromArray(backend, lengths, [lengths.length], 'i32'), queryLayout: 'blhd' }),
    );
    const numbers = Array.from(await o.readNumbers());
    o.dispose();
    return numbers;
  }

  /** As far apart as sums in another order are. */
  function expectClose(actual: readonly number[], expected: readonly number[]): void {
    const worst = Math.max(...expected.map((value, index) => Math.abs(value - actual[index])));
    expect(worst).toBeLessThan(1e-5);
  }

  it('have no bias until one has, and then four bytes each', () => {
    const own = held();
    step(own, new Random(1), 6);
    const { cache } = own;
    const before = cache.bytes().raw;
    cache.setBias(0, 0, new Float32Array(6));
    cache.setBias(0, 1, null);
    expect([cache.biases, cache.bytes().raw]).toEqual([undefined, before]);
    cache.setBias(0, 0, [0, 0, 1, 0, 0, 0]);
    const pages = sizes.layers * sizes.kvHeads * Math.ceil(6 / pageSize);
    expect(cache.bytes().raw).toBe(before + pages * pageSize * 4);
    cache.dispose();
  });

  it('begin without a bias where others had one in the page that only they used', () => {
    const own = held();
    const random = new Random(2);
    step(own, random, 3);
    own.cache.setBias(0, 0, [1, 2, 3]);
    own.cache.setReceived(0, 0, [1, 2, 3]);
    const child = { ...own, cache: own.cache.fork(), heads: own.heads.map((lists) => lists.map((list) => [...list])) };
    child.cache.truncate(1);
    child.ends.fill(1);
    own.cache.dispose();
    append(child, 0, random, 2);
    expect(Array.from(child.cache.bias(0, 0))).toEqual([1, 0, 0]);
    expect(Array.from(child.cache.received(0, 0))).toEqual([1, 0, 0]);
    child.cache.dispose();
  });

  it.each([1, 3])('in any order are seen by %d new tokens as in the order of positions', async (count) => {
    const [sorted, shuffled] = [held(), held()];
    for (const own of [sorted, shuffled]) step(own, new Random(3), 9);
    const order = [4, 0, 8, 2, 6, 1, 7, 3, 5];
    for (const head of [0, 1]) {
      const list = shuffled.heads[0][head];
      const bias = list.map((_entry, id) => id / 4 - 1);
      sorted.cache.setBias(0, head, bias);
      scope(() => {
        const rows = (name: 'k' | 'v'): Tensor =>
          fromArray(backend, Float32Array.from(order.flatMap((id) => list[id][name])), [9, 1, list[0][name].length]);
        shuffled.cache.overwrite(0, head, [...order.keys()], {
          ...{ k: rows('k'), v: rows('v') },
          positions: order,
          bias: order.map((id) => bias[id]),
        });
      });
    }
    expect(shuffled.cache.positionsEnd).toBe(9);
    for (const own of [sorted, shuffled]) step(own, new Random(4), count);
    const q = normals(new Random(5), [sizes.kvHeads, count, 1, sizes.kDim]);
    expectClose(await attended(shuffled, q), await attended(sorted, q));
    // Drafts of the step can be dropped, and nothing from before it.
    shuffled.cache.truncate(9);
    expect(Array.from(shuffled.cache.positions(0, 0))).toEqual(order);
    expect(() => {
      shuffled.cache.truncate(8);
    }).toThrow(/cannot go back to 8/);
    for (const { cache } of [sorted, shuffled]) cache.dispose();
  });

  it('that are equal merge into one that weighs as much as all of them', async () => {
    const own = held();
    step(own, new Random(6), 7);
    const same = own.heads[0][0][1];
    scope(() => {
      const rows = (name: 'k' | 'v'): Tensor =>
        fromArray(backend, Float32Array.from([2, 4, 5].flatMap(() => same[name])), [3, 1, same[name].length]);
      own.cache.overwrite(0, 0, [2, 4, 5], { k: rows('k'), v: rows('v'), positions: [2, 4, 5] });
    });
    const q = normals(new Random(7), [sizes.kvHeads, 1, 1, sizes.kDim]);
    const before = await attended(own, q);
    own.cache.merge(0, 0, { into: 1, from: [2, 4] });
    own.cache.merge(0, 0, { into: 3, from: [1] });
    expect(own.cache.length(0, 0)).toBe(4);
    expect(own.cache.bias(0, 0)[2]).toBeCloseTo(Math.log(4), 6);
    expectClose(await attended(own, q), before);
    own.cache.dispose();
  });

  it.each(['f32', 'f16'] as const)('come back from wherever they were moved with the same bits (%s)', async (dtype) => {
    const own = held(40, dtype);
    fill(own, 0, new Random(8), { length: 11, source: dtype });
    const { cache } = own;
    const keys = async (): Promise<unknown> => [
      await cache.pool.keys[0].readNumbers(),
      [0, 1].map((head) => Array.from(cache.positions(0, head))),
    ];
    const before = await keys();
    const home = [0, 1].map((head) => cache.positions(0, head));
    for (let time = 1; time < 20; time++) {
      const away = home.map((list) => list.map((position) => position + 37 * time));
      cache.reposition(0, time % 2 === 0 ? 'contiguous' : away, rotate);
    }
    cache.reposition(0, home, rotate);
    expect(await keys()).toEqual(before);
    expect(cache.floor).toBe(1 + Math.max(...home.flatMap((list) => Array.from(list))));
    cache.dispose();
  });

  it('are refused by name, and stay as they were', async () => {
    const own = held(8);
    const random = new Random(9);
    step(own, random, 5);
    const { cache } = own;
    const before = state(own);
    const [k, v] = [normals(random, [1, 1, sizes.kDim]), normals(random, [1, 1, sizes.vDim])];
    const refusals: [() => void, RegExp][] = [
      [
        () => {
          cache.setBias(0, 0, [1]);
        },
        /setBias: there are 1 numbers for 5 entries/,
      ],
      [
        () => {
          cache.setBias(0, 0, [0, NaN, 0, 0, 0]);
        },
        /setBias: the number of entry 1 is NaN/,
      ],
      [
        () => {
          cache.setBias(0, 0, [Infinity, 0, 0, 0, 0]);
        },
        /below ∞/,
      ],
      [
        () => {
          cache.setReceived(0, 0, [1]);
        },
        /setReceived: there are 1 numbers/,
      ],
      [
        () => {
          cache.overwrite(0, 0, [5], { k, v, positions: [0] });
        },
        /overwrite: entry 5/,
      ],
      [
        () => {
          cache.overwrite(0, 0, [0], { k: v, v, positions: [0] });
        },
        /overwrite: k is/,
      ],
      [
        () => {
          cache.overwrite(0, 0, [0], { k, v, positions: [] });
        },
        /0 positions for 1 entries/,
      ],
      [
        () => {
          cache.overwrite(0, 0, [0], { k, v, positions: [-1] });
        },
        /position -1 of entry 0/,
      ],
      [
        () => {
          cache.overwrite(0, 0, [0], { k, v, positions: [0], bias: [NaN] });
        },
        /the number of entry 0 is NaN/,
      ],
      [
        () => {
          cache.merge(0, 0, { into: 5, from: [1] });
        },
        /merge: entry 5/,
      ],
      [
        () => {
          cache.merge(0, 0, { into: 1, from: [1] });
        },
        /leave it out of from/,
      ],
      [
        () => {
          cache.merge(0, 0, { into: 1, from: [2], weights: [1] });
        },
        /of into, then of from/,
      ],
      [
        () => {
          cache.merge(0, 0, { into: 1, from: [2], weights: [1, -1] });
        },
        /non-negative numbers/,
      ],
      [
        () => {
          cache.merge(0, 0, { into: 1, from: [2], weights: [0, 0] });
        },
        /positive sum/,
      ],
      [
        () => {
          cache.reposition(0, [[0, 1, 2, 3, 4]], rotate);
        },
        /positions of 1 heads, the layer has 2/,
      ],
      [
        () => {
          cache.reposition(0, [[0, 1, 2, 3, 4], [0]], rotate);
        },
        /1 positions for 5 entries/,
      ],
      [
        () => {
          cache.commit(6);
        },
        /commit: position is 6/,
      ],
    ];
    for (const [use, message] of refusals) {
      expect(use).toThrow(FiligreeError);
      expect(use).toThrow(message);
    }
    const child = cache.fork();
    // All eight pages are in use, and shared.
    for (const use of [
      () => {
        child.setBias(0, 0, [1, 0, 0, 0, 0]);
      },
      () => {
        child.overwrite(0, 0, [0], { k, v, positions: [0] });
      },
      () => {
        child.merge(0, 0, { into: 0, from: [1] });
      },
      () => {
        child.reposition(
          0,
          [
            [5, 6, 7, 8, 9],
            [5, 6, 7, 8, 9],
          ],
          rotate,
        );
      },
    ])
      expect(use).toThrow(KvCapacityError);
    child.dispose();
    expect(state(own)).toEqual(before);
    const nowhere = join(tmpdir(), 'filigree-refused.kv');
    cache.overwrite(0, 0, [0], { k, v, positions: [4] });
    await expect(saveKv(nowhere, cache, { model: 'm' })).rejects.toThrow(OptionError);
    await expect(saveKv(nowhere, cache, { model: 'm' })).rejects.toThrow(/out of order/);
    cache.dispose();
  });
});
