import {
  fromArray,
  gatherRows,
  OptionError,
  Random,
  reshape,
  scope,
  ShapeError,
  writeSlice,
  type Backend,
  type NumberArray,
  type Tensor,
} from '@filigree/core-tensor';
import {
  attention,
  attentionOp,
  attentionStats,
  attentionStatsOp,
  gatherAttention,
  gatherAttentionOp,
  lowerMask,
  mergeAttention,
  mergeOp,
  plannedAttention,
  plannedAttentionOp,
  planTensor,
  probeSums,
  probeSumsOp,
  streaming,
  type BlockMask,
  type MaskShape,
} from '@filigree/sparse-attention';
import { firstDifference, nativeBackends, webGpuBackends } from '@filigree/testing';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const ops = [attentionOp, plannedAttentionOp, gatherAttentionOp, attentionStatsOp, mergeOp, probeSumsOp];
const [heads, kvHeads, length, dim] = [4, 2, 75, 8];

interface Prompt {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
}

/** Normally distributed queries, keys and values. */
function prompt(backend: Backend, seed: number, queries = length, keyHeads = kvHeads): Prompt {
  const random = new Random(seed);
  const tensor = (shape: readonly number[]): Tensor => {
    const size = shape.reduce((a, b) => a * b, 1);
    return fromArray(
      backend,
      Float32Array.from({ length: size }, () => random.nextNormal()),
      shape,
      'f32',
    );
  };
  return {
    q: tensor([1, heads, queries, dim]),
    k: tensor([1, keyHeads, length, dim]),
    v: tensor([1, keyHeads, length, dim]),
  };
}

interface Attended {
  readonly o: NumberArray;
  readonly lse: NumberArray;
}

async function read({ o, lse }: { o: Tensor; lse: Tensor }): Promise<Attended> {
  return { o: await o.readNumbers(), lse: await lse.readNumbers() };
}

function expectClose(actual: Attended, expected: Attended): void {
  for (const name of ['o', 'lse'] as const) {
    const worst = Array.from(expected[name], (value, index) => Math.abs((actual[name][index] ?? NaN) - value));
    const same = Array.from(expected[name], (value, index) => value === actual[name][index]);
    expect(
      worst.findIndex((difference, index) => !same[index] && !(difference <= 2e-5)),
      `${name} differs by ${Math.max(...worst.filter(Number.isFinite))}`,
    ).toBe(-1);
  }
}

/** A mask whose row blocks all list the key blocks of `chosen`. */
function blocksMask(chosen: readonly number[], { blockQ = 16, blockK = 8, queries = length } = {}): BlockMask {
  const rows = Math.ceil(queries / blockQ);
  return {
    ...{ batch: 1, maskHeads: 1, headMap: new Int32Array(heads), blockQ, blockK, causal: true, window: 0 },
    ...{ lenQ: Int32Array.of(queries), lenK: Int32Array.of(length), qOffset: Int32Array.of(length - queries) },
    rowPtr: Int32Array.from({ length: rows + 1 }, (_, row) => row * chosen.length),
    colIdx: Int32Array.from(Array.from({ length: rows }, () => chosen).flat()),
  };
}

describe.each([nativeBackends()[nativeBackends().length - 1], webGpuBackends()[0]])('executors on $name', (under) => {
  let backend: Backend;

  beforeAll(async () => {
    backend = await under.create(ops);
  });

  afterAll(() => {
    backend.dispose();
  });

  /** Results of some attention, read back. */
  async function results(run: () => { o: Tensor; lse: Tensor }): Promise<Attended> {
    const result = scope(run);
    const host = await read(result);
    result.o.dispose();
    result.lse.dispose();
    return host;
  }

  it('gives the whole from any parts of the keys', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(3), { minLength: 10, maxLength: 10 }), fc.nat(1000), async (partOf, seed) => {
        const { q, k, v } = prompt(backend, seed);
        const whole = await results(() => attention(q, k, v));
        const merged = await results(() => {
          const parts = [0, 1, 2, 3].map((part) => {
            const blocks = [...partOf.keys()].filter((block) => partOf[block] === part);
            return plannedAttention(q, k, v, planTensor(backend, lowerMask(blocksMask(blocks))));
          });
          return mergeAttention(parts);
        });
        expectClose(merged, whole);
        for (const tensor of [q, k, v]) tensor.dispose();
      }),
      { numRuns: 8 },
    );
  });

  it('goes on from an earlier part', async () => {
    const { q, k, v } = prompt(backend, 1);
    const planOf = (blocks: readonly number[]): Tensor => planTensor(backend, lowerMask(blocksMask(blocks)));
    const resumed = await results(() => {
      const init = plannedAttention(q, k, v, planOf([0, 3, 9]));
      return plannedAttention(q, k, v, planOf([1, 2, 4, 5, 6, 7, 8]), { init });
    });
    expectClose(resumed, await results(() => attention(q, k, v)));
  });

  it('takes sinks into the softmax once, after all parts', async () => {
    const { q, k, v } = prompt(backend, 2);
    const logits = [0.5, -1, 3, 0];
    const sinks = fromArray(backend, Float32Array.from(logits), [heads], 'f32');
    const plain = await results(() => attention(q, k, v));
    const expected = {
      lse: plain.lse.map((lse, row) => Math.log(Math.exp(lse) + Math.exp(logits[Math.floor(row / length)]))),
      o: plain.o.map((value, index) => {
        const row = Math.floor(index / dim);
        return value / (1 + Math.exp(logits[Math.floor(row / length)] - plain.lse[row]));
      }),
    };
    expectClose(await results(() => attention(q, k, v, { sinks })), expected);
    const planOf = (blocks: readonly number[]): Tensor => planTensor(backend, lowerMask(blocksMask(blocks)));
    const merged = await results(() => {
      const init = plannedAttention(q, k, v, planOf([0, 1, 2, 3]));
      return plannedAttention(q, k, v, planOf([4, 5, 6, 7, 8, 9]), { init, sinks });
    });
    expectClose(merged, expected);
  });

  it('multiplies the scores of a row by its scale', async () => {
    const { q, k, v } = prompt(backend, 3);
    const scales = Float32Array.from({ length: heads * length }, (_, row) => 0.5 + (row % 7) / 4);
    const numbers = await q.readNumbers();
    const scaled = fromArray(
      backend,
      numbers.map((value, index) => value * scales[Math.floor(index / dim)]),
      q.shape,
      'f32',
    );
    const rowScale = fromArray(backend, scales, [1, heads, length], 'f32');
    expectClose(await results(() => attention(q, k, v, { rowScale })), await results(() => attention(scaled, k, v)));
    expect(() => attention(q, k, v, { rowScale: q })).toThrow(OptionError);
  });

  it('gives rows without keys 0 and −∞, merged or not', async () => {
    const { q, k, v } = prompt(backend, 4);
    const { o, lse } = await results(() => {
      const empty = plannedAttention(q, k, v, planTensor(backend, lowerMask(blocksMask([]))));
      return mergeAttention([empty, empty]);
    });
    expect(o.every((value) => value === 0)).toBe(true);
    expect(lse.every((value) => value === -Infinity)).toBe(true);
  });

  it('gives the queries of a chunk what they have in the whole prompt', async () => {
    const { q, k, v } = prompt(backend, 5);
    const pattern = streaming({ sinks: 3, window: 20 });
    const shape = { batch: 1, heads, lenK: [length] };
    const planOf = (sizes: MaskShape): Tensor => planTensor(backend, lowerMask(pattern(sizes)));
    const whole = await results(() => plannedAttention(q, k, v, planOf({ ...shape, lenQ: [length] })));
    const queries = 33;
    const rows = await q.readNumbers();
    const last = (from: NumberArray, width: number): number[] =>
      Array.from({ length: heads }, (_, head) => [
        ...from.subarray((head * length + length - queries) * width, (head + 1) * length * width),
      ]).flat();
    const chunk = fromArray(backend, Float32Array.from(last(rows, dim)), [1, heads, queries, dim], 'f32');
    const chunked = await results(() =>
      plannedAttention(chunk, k, v, planOf({ ...shape, lenQ: [queries], promptEnd: [length] })),
    );
    expectClose(chunked, { o: Float32Array.from(last(whole.o, dim)), lse: Float32Array.from(last(whole.lse, 1)) });
  });

  it('reads key-value heads through a map as if they were copied', async () => {
    const { q, k, v } = prompt(backend, 6);
    const map = [1, 0, 1, 1];
    const kvMap = fromArray(backend, Int32Array.from(map), [heads], 'i32');
    const copied = async (tensor: Tensor): Promise<Tensor> => {
      const numbers = await tensor.readNumbers();
      const all = map.flatMap((head) => [...numbers.subarray(head * length * dim, (head + 1) * length * dim)]);
      return fromArray(backend, Float32Array.from(all), [1, heads, length, dim], 'f32');
    };
    const [copiedK, copiedV] = [await copied(k), await copied(v)];
    const expected = await results(() => attention(q, copiedK, copiedV));
    expectClose(await results(() => attention(q, k, v, { kvMap })), expected);
    const plan = { ...lowerMask(blocksMask([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])), kvMap: Int32Array.from(map) };
    expectClose(await results(() => plannedAttention(q, k, v, planTensor(backend, plan))), expected);
    const indices = Array.from({ length }, (_, query) => Array.from({ length }, (__, key) => (key <= query ? key : -1)));
    const lists = fromArray(backend, Int32Array.from(indices.flat()), [1, 1, length, length], 'i32');
    expectClose(await results(() => gatherAttention(q, k, v, lists, { kvMap })), expected);
  });

  it('adds a bias to the scores of a key: log 3 weighs it three times, −∞ leaves it out whatever its numbers are', async () => {
    const [group, entries] = [heads / kvHeads, 30];
    for (const queries of [1, 20]) {
      const { q, k, v } = prompt(backend, 8, queries);
      const some = (x: Tensor, ids: readonly number[]): Tensor => {
        const rows = Array.from({ length: kvHeads }, (_, head) => ids.map((id) => head * length + id)).flat();
        const flat = reshape(x, [kvHeads * length, dim]);
        return reshape(gatherRows(flat, fromArray(backend, rows, [rows.length], 'i32')), [1, kvHeads, ids.length, dim]);
      };
      const plain = [...Array(entries).keys()];
      // Entry 3 three times; entry 5 is not there.
      const ids = plain.flatMap((id) => (id === 3 ? [3, 3, 3] : id === 5 ? [] : [id]));
      const wanted = await read(attention(q, some(k, ids), some(v, ids), { causal: false }));
      const poisoned = (x: Tensor): Tensor => {
        const hole = fromArray(backend, new Float32Array(kvHeads * dim).fill(NaN), [1, kvHeads, 1, dim]);
        const whole = some(x, plain);
        writeSlice(whole, hole, { axis: 2, start: 5 });
        return whole;
      };
      const row = Float32Array.from(plain, (id) => (id === 3 ? Math.log(3) : id === 5 ? -Infinity : 0));
      const bias = fromArray(
        backend,
        Float32Array.from({ length: kvHeads * entries }, (_, at) => row[at % entries]),
        [...[1, kvHeads, entries]],
      );
      expectClose(await read(attention(q, poisoned(k), poisoned(v), { causal: false, bias })), wanted);
      const nothing = fromArray(backend, new Float32Array(kvHeads * entries).fill(-Infinity), [1, kvHeads, entries]);
      const { o, lse } = await read(attention(q, some(k, plain), some(v, plain), { bias: nothing }));
      expect(new Set([...o, ...lse])).toEqual(new Set([0, -Infinity]));
      const kvMap = fromArray(
        backend,
        Int32Array.from({ length: heads }, (_, head) => Math.floor(head / group)),
        [heads],
        'i32',
      );
      expect(() => attention(q, some(k, plain), some(v, plain), { bias, kvMap })).toThrow(OptionError);
      expect(() => attention(q, k, v, { bias })).toThrow(ShapeError);
    }
  });

  it('keeps all scores when n of n are kept, and n of each group when all are equal', async () => {
    const { q, k, v } = prompt(backend, 7);
    const all = { n: 4, m: 4, sinks: 0, recent: 0 } as const;
    const dense = await results(() => attention(q, k, v));
    expectClose(await results(() => attention(q, k, v, { scoreNM: all })), dense);
    const zero = fromArray(backend, new Float32Array(heads * length * dim), q.shape, 'f32');
    const { lse } = await results(() => attention(zero, k, v, { scoreNM: { ...all, n: 3 } }));
    // Query i sees keys 0 … i: three of every whole group of four, and at most three of the last one.
    const kept = Array.from({ length }, (_, query) => 3 * Math.floor((query + 1) / 4) + Math.min(3, (query + 1) % 4));
    expect(Array.from(lse, (value) => Math.round(Math.exp(value)))).toEqual(Array.from({ length: heads }, () => kept).flat());
  });

  it('leaves out no tile when none lies far enough below, and only far tiles otherwise', async () => {
    const { q, k, v } = prompt(backend, 8);
    const dense = await results(() => attention(q, k, v));
    expectClose(await results(() => attention(q, k, v, { pvSkip: 1000 })), dense);
    const { lse } = await results(() => attention(q, k, v, { pvSkip: 0.01 }));
    expect(lse.some((value, row) => value < dense.lse[row] - 1e-3)).toBe(true);
    expect(lse.every((value, row) => value <= dense.lse[row] + 1e-5)).toBe(true);
    // The first tile of positions has nothing to be compared with.
    expect(lse.subarray(0, 64).every((value, row) => Math.abs(value - dense.lse[row]) <= 2e-5)).toBe(true);
  });

  it('sums the probabilities of a row block to its number of queries', async () => {
    const { q, k, v } = prompt(backend, 9);
    const plan = planTensor(backend, lowerMask(blocksMask([0, 2, 5, 6, 9])));
    const { o, lse } = plannedAttention(q, k, v, plan);
    const stats = attentionStats(q, k, plan, lse, { blockQ: 16, blockK: 8 });
    const numbers = await stats.readNumbers();
    const [, , blocksQ, blocksK] = stats.shape;
    const sums = Array.from({ length: heads * blocksQ }, (_, row) =>
      Array.from(numbers.subarray(row * blocksK, (row + 1) * blocksK)).reduce((a, b) => a + b, 0),
    );
    const queries = Array.from({ length: blocksQ }, (_, block) => Math.min(16, length - 16 * block));
    for (const [row, sum] of sums.entries()) expect(sum).toBeCloseTo(queries[row % blocksQ], 4);
    for (const tensor of [o, lse, stats, plan]) tensor.dispose();
  });

  it('has of the probabilities of the last queries by key and by distance what probe-sums has', async () => {
    const { q, k, v } = prompt(backend, 10);
    const everything = Array.from({ length: Math.ceil(length / 8) }, (_, block) => block);
    const plan = planTensor(backend, lowerMask(blocksMask(everything)));
    const { o, lse } = plannedAttention(q, k, v, plan);
    const { columns, diagonals } = probeSums(q, k, { rows: length });
    const pairs = [
      ['keys', columns],
      ['distances', diagonals],
    ] as const;
    for (const [along, sums] of pairs) {
      const stats = attentionStats(q, k, plan, lse, { blockQ: length, blockK: 1, along });
      const difference = firstDifference(await stats.readNumbers(), await sums.readNumbers(), {
        absolute: 1e-4,
        relative: 1e-3,
      });
      expect(difference).toBeUndefined();
      stats.dispose();
    }
    for (const tensor of [o, lse, plan, columns, diagonals]) tensor.dispose();
  });
});
