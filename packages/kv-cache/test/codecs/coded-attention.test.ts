import { createNativeBackend } from '@filigree/backend-native';
import { createReferenceBackend, fromArray, narrow, Random, type Backend, type Tensor } from '@filigree/core-tensor';
import { codedAttention, int8Kv, kiviKv, mustafarKv, turboKv, type CodedKvCodec, type CodedKvView } from '@filigree/kv-cache';
import { attention, mergeAttention } from '@filigree/sparse-attention';
import { firstDifference } from '@filigree/testing';
import { afterAll, describe, expect, it } from 'vitest';

const [kvHeads, group, dim, pageSize] = [3, 3, 64, 64];
const codecs = [
  int8Kv(),
  ...([4, 2] as const).map((bits) => kiviKv({ bits })),
  ...([4, 2] as const).map((bits) => turboKv({ bits, seed: 5 })),
  mustafarKv({ sparsity: 0.7 }),
];
const tolerance = { absolute: 5e-5, relative: 1e-4 };

function normal(count: number, seed: number): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: count }, () => random.nextNormal());
}

interface Coded extends CodedKvView {
  /** What the pages decode to: [pages, Hk, P, D]. */
  readonly decoded: { readonly k: Tensor; readonly v: Tensor };
}

/** Pages of random entries, in reverse order in the table. */
function coded(backend: Backend, codec: { readonly k: CodedKvCodec; readonly v: CodedKvCodec }, pages: number): Coded {
  const ids = fromArray(backend, [...Array(pages).keys()], [pages], 'i32');
  const size = { pages, heads: kvHeads, pageSize, dim };
  const [k, v] = (['keys', 'values'] as const).map((side, index) => {
    const of = index === 0 ? codec.k : codec.v;
    const rows = fromArray(backend, normal(pages * kvHeads * pageSize * dim, 1 + index), [pages, kvHeads, pageSize, dim]);
    const made = of.allocate(backend, side, size);
    of.encodePages(side, { pages: rows, sources: ids, targets: ids, coded: made });
    return { coded: made, decoded: of.decodePages(side, made, ids, size) };
  });
  return {
    ...{ k: k.coded, v: v.coded, codec, pageSize, vDim: dim },
    table: fromArray(backend, [...Array(pages).keys()].reverse(), [1, pages], 'i32'),
    lengths: fromArray(backend, [pages * pageSize], [1], 'i32'),
    decoded: { k: k.decoded, v: v.decoded },
  };
}

const queries = (backend: Backend, count: number): Tensor =>
  fromArray(backend, normal(count * kvHeads * group * dim, 5), [1, count, kvHeads * group, dim]);

describe.each(codecs)('attention over codes of $id', (codec) => {
  const backend = createNativeBackend();
  const view = coded(backend, { k: codec, v: codec }, 40);
  afterAll(() => {
    backend.dispose();
  });

  it.each([1, 3, 40])('of %i queries is attention over what they decode to', async (count) => {
    const q = queries(backend, count);
    const actual = codedAttention(q, view);
    const options = { table: view.table, causal: false, queryLayout: 'blhd' as const };
    const expected = attention(q, view.decoded.k, view.decoded.v, options);
    for (const name of ['o', 'lse'] as const)
      expect(firstDifference(await actual[name].readNumbers(), await expected[name].readNumbers(), tolerance)).toBeUndefined();
  });

  it('has the same bits on any number of threads', async () => {
    const alone = createNativeBackend({ threads: 1 });
    const many = createNativeBackend({ threads: 5 });
    const [a, b] = await Promise.all(
      [alone, many].map((on) => codedAttention(queries(on, 2), coded(on, { k: codec, v: codec }, 40)).o.readNumbers()),
    );
    expect(a).toEqual(b);
    alone.dispose();
    many.dispose();
  });

  it('is merged with attention over raw entries behind them', async () => {
    const q = queries(backend, 1);
    const pages = 6;
    const front = {
      ...view,
      table: narrowPages(view.table, 0, pages),
      lengths: fromArray(backend, [pages * pageSize], [1], 'i32'),
    };
    const tail = narrowPages(view.table, pages, 1);
    const rest = { table: tail, lengthK: 17, causal: false, queryLayout: 'blhd' as const };
    const parts = [codedAttention(q, front), attention(q, view.decoded.k, view.decoded.v, rest)];
    const whole = { ...rest, table: narrowPages(view.table, 0, pages + 1), lengthK: pages * pageSize + 17 };
    const expected = attention(q, view.decoded.k, view.decoded.v, whole);
    const merged = mergeAttention(parts, { queryLayout: 'blhd' });
    expect(firstDifference(await merged.o.readNumbers(), await expected.o.readNumbers(), tolerance)).toBeUndefined();
  });
});

/** Pages `first … first + count` of a table of one element. */
function narrowPages(table: Tensor, first: number, count: number): Tensor {
  return narrow(table.view([table.shape[1]]), first, count).view([1, count], first);
}

describe('keys and values of different codecs', () => {
  it.each([
    [0, 2],
    [3, 1],
    [1, 4],
    [4, 3],
  ])('are attended to alike', async (k, v) => {
    const backend = createReferenceBackend();
    const view = coded(backend, { k: codecs[k], v: codecs[v] }, 2);
    const q = queries(backend, 1);
    const options = { table: view.table, causal: false, queryLayout: 'blhd' as const };
    const expected = attention(q, view.decoded.k, view.decoded.v, options);
    const actual = codedAttention(q, view);
    expect(firstDifference(await actual.o.readNumbers(), await expected.o.readNumbers(), tolerance)).toBeUndefined();
  });
});
