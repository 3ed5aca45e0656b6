import { Random } from '@filigree/core-tensor';
import { FlatIndex, GraphIndex, IvfIndex, type KeyIndex } from '@filigree/sparse-attention';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { span } from './support/mask-keys.js';

function normals(seed: number, count: number, dim: number, scale: (channel: number) => number = () => 1): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: count * dim }, (_, index) => scale(index % dim) * random.nextNormal());
}

const rowOf = (rows: Float32Array, index: number, dim: number): Float32Array => rows.subarray(index * dim, (index + 1) * dim);

/** Ids of all keys, greatest product first, ties to the lower. */
function ranked(keys: Float32Array, query: Float32Array): number[] {
  const dim = query.length;
  const products = span(0, keys.length / dim).map((id) =>
    rowOf(keys, id, dim).reduce((sum, value, channel) => sum + query[channel] * value, 0),
  );
  return [...products.keys()].sort((a, b) => products[b] - products[a] || a - b);
}

const kinds: readonly (readonly [string, (dim: number, keys: Float32Array, queries: Float32Array) => KeyIndex])[] = [
  ['flat', (dim, keys) => new FlatIndex(dim, keys)],
  ['ivf', (dim, keys) => new IvfIndex(dim, keys, { lists: 7, probes: 2 })],
  ['graph of queries', (dim, keys, queries) => new GraphIndex(dim, keys, queries, { degree: 6, ef: 12 })],
  ['graph of keys', (dim, keys) => new GraphIndex(dim, keys, undefined, { degree: 6, ef: 12 })],
];

describe.each(kinds)('%s index', (_, make) => {
  it('finds everything, in order, when everything is asked for', () => {
    fc.assert(
      fc.property(fc.nat(1e6), fc.integer({ min: 0, max: 60 }), fc.integer({ min: 0, max: 20 }), (seed, size, more) => {
        const dim = 5;
        const [keys, added] = [normals(seed, size, dim), normals(seed + 1, more, dim)];
        const index = make(dim, keys.slice(), normals(seed + 2, 9, dim));
        index.add(added);
        expect(index.size).toBe(size + more);
        const query = normals(seed + 3, 1, dim);
        expect([...index.search(query, 100).ids]).toEqual(ranked(Float32Array.from([...keys, ...added]), query));
      }),
      { numRuns: 40, seed: 2 },
    );
  });

  it('finds as many different keys as it is asked for', () => {
    const dim = 8;
    const index = make(dim, normals(1, 300, dim), normals(2, 40, dim));
    index.add(normals(3, 50, dim));
    for (const seed of span(10, 20)) {
      const { ids, visited } = index.search(normals(seed, 1, dim), 20);
      expect(new Set(ids).size).toBe(20);
      expect(Math.min(...ids)).toBeGreaterThanOrEqual(0);
      expect(Math.max(...ids)).toBeLessThan(350);
      expect(visited).toBeGreaterThanOrEqual(20);
    }
  });

  it('finds nothing for 0, and puts keys that are not numbers last', () => {
    const keys = normals(4, 40, 4);
    keys[4 * 7] = NaN;
    const index = make(4, keys, normals(5, 10, 4));
    expect(index.search(normals(6, 1, 4), 0).ids).toHaveLength(0);
    expect(index.search(normals(6, 1, 4), 40).ids.at(-1)).toBe(7);
  });
});

describe('searches of some keys', () => {
  const dim = 32;
  const size = 4000;
  // Most of what keys differ in is nothing that queries ask for, as in attention.
  const keys = normals(1, size, dim, (channel) => (channel < 24 ? 2 : 1));
  const queries = (seed: number, count: number): Float32Array =>
    normals(seed, count, dim, (channel) => (channel < 24 ? 0.05 : 1));
  const asked = queries(3, 20);
  const wanted = span(0, 20).map((index) => new Set(ranked(keys, rowOf(asked, index, dim)).slice(0, 100)));

  /** Mean share of the 100 best keys that was found, and of all keys that was looked at. */
  function quality(search: (query: Float32Array) => { ids: Int32Array; visited: number }): { recall: number; visited: number } {
    let [recall, visited] = [0, 0];
    for (const [index, best] of wanted.entries()) {
      const found = search(rowOf(asked, index, dim));
      recall += [...found.ids].filter((id) => best.has(id)).length / 100 / wanted.length;
      visited += found.visited / size / wanted.length;
    }
    return { recall, visited };
  }

  it('find more, and look at less, in a graph of queries than in one of keys or in lists', () => {
    const [byQueries, byKeys] = [new GraphIndex(dim, keys, queries(2, 800)), new GraphIndex(dim, keys)];
    const lists = new IvfIndex(dim, keys, { probes: 14 });
    const curve = [100, 200, 400].map((ef) => quality((query) => byQueries.search(query, 100, ef)));
    const others = [
      ...[100, 150].map((ef) => quality((query) => byKeys.search(query, 100, ef))),
      quality((query) => lists.search(query, 100)),
    ];
    expect(curve.map(({ recall }) => recall)).toEqual(curve.map(({ recall }) => recall).sort((a, b) => a - b));
    for (const other of others) {
      const better = curve.find(({ visited }) => visited <= other.visited);
      expect(better?.recall).toBeGreaterThan(other.recall + 0.05);
    }
  });

  it('find exactly the best keys among all of them', () => {
    const flat = new FlatIndex(dim, keys);
    expect(quality((query) => flat.search(query, 100))).toEqual({
      recall: expect.closeTo(1, 9),
      visited: expect.closeTo(1, 9),
    });
  });
});
