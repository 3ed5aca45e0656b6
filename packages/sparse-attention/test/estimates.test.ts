import { createNativeBackend } from '@filigree/backend-native';
import {
  createReferenceBackend,
  fromArray,
  seededTensor,
  type Backend,
  type DType,
  type HostTensor,
  type Tensor,
} from '@filigree/core-tensor';
import {
  antidiagonalScores,
  appendLabelsOp,
  boundScores,
  chunkDescent,
  labelScores,
  lowerMask,
  pageBoundsOp,
  plannedAttention,
  planTensor,
  quantDot,
  rowStats,
  streaming,
} from '@filigree/sparse-attention';
import { afterAll, describe, expect, it } from 'vitest';

const native = createNativeBackend({ threads: 2, fallback: 'error' });
const single = createNativeBackend({ threads: 1, fallback: 'error' });
const reference = createReferenceBackend();
afterAll(() => {
  for (const backend of [native, single, reference]) backend.dispose();
});

const put = (backend: Backend, host: HostTensor): Tensor => fromArray(backend, host.data, host.shape, host.dtype);
const integers = (backend: Backend, values: readonly number[], shape: readonly number[] = [values.length]): Tensor =>
  fromArray(backend, Int32Array.from(values), shape, 'i32');

/** q [1, heads, queries, dim] and k [1, kvHeads, keys, dim] of normal numbers. */
function random(
  seed: number,
  heads: number,
  kvHeads: number,
  queries: number,
  keys: number,
  dim: number,
): [HostTensor, HostTensor] {
  return [seededTensor(seed, [1, heads, queries, dim]), seededTensor(seed + 1, [1, kvHeads, keys, dim])];
}

/** Whole numbers: sums of their products are the same in every order. */
const whole = (host: HostTensor): HostTensor => ({ ...host, data: host.data.map((value) => Math.round(4 * value)) });

/** Row `at` of a host tensor. */
const row = (host: HostTensor, at: number): Float64Array =>
  Float64Array.from(host.data.subarray(at * host.shape[3], (at + 1) * host.shape[3]));
const dot = (a: Float64Array, b: Float64Array): number => a.reduce((sum, value, index) => sum + value * b[index], 0);

describe('page bounds', () => {
  const [pages, heads, pageSize, page, dim] = [3, 2, 32, 8, 16];
  const k = seededTensor(3, [pages, heads, pageSize, dim]);
  const slots = [2, 0, 1].flatMap((id) =>
    Array.from({ length: id === 1 ? 13 : pageSize }, (_, entry) => id * pageSize + entry),
  );

  async function bounds(steps: readonly (readonly number[])[], dtype: DType): Promise<[Float32Array, Float32Array]> {
    const empty = { dtype, shape: [pages, heads, pageSize / page, dim], data: new Float32Array(pages * heads * 4 * dim) };
    const [keyMin, keyMax] = [put(native, empty), put(native, empty)];
    for (const step of steps) pageBoundsOp({ keyMin, keyMax, k: put(native, k), slots: integers(native, step) }, {});
    return [Float32Array.from(await keyMin.readNumbers()), Float32Array.from(await keyMax.readNumbers())];
  }

  it.each(['f32', 'bf16'] as const)('made entry by entry equal those made at once in %s', async (dtype) => {
    const steps = [...Array(slots.length).keys()].map((index) => [slots[index]]);
    expect(await bounds(steps, dtype)).toEqual(await bounds([slots], dtype));
  });

  it('in bf16 lie outside of those in f32, next to them', async () => {
    const [[low, high], [least, greatest]] = [await bounds([slots], 'bf16'), await bounds([slots], 'f32')];
    for (const [at, value] of least.entries()) {
      expect(low[at]).toBeLessThanOrEqual(value);
      expect(value - low[at]).toBeLessThanOrEqual(Math.abs(value) / 128);
      expect(high[at]).toBeGreaterThanOrEqual(greatest[at]);
      expect(high[at] - greatest[at]).toBeLessThanOrEqual(Math.abs(greatest[at]) / 128);
    }
    expect(low).not.toEqual(least);
  });

  it.each(['f32', 'bf16'] as const)('bound every score of the page in %s', async (dtype) => {
    const [q, keys] = random(5, 6, 2, 3, 96, dim);
    const [keyMin, keyMax] = ['min', 'max'].map(() =>
      put(native, { dtype, shape: [1, 2, 12, dim], data: new Float32Array(24 * dim) }),
    );
    pageBoundsOp({ keyMin, keyMax, k: put(native, keys), slots: integers(native, [...Array(96).keys()]) }, {});
    const y = await boundScores(put(native, q), { keyMin, keyMax, page }, { scale: 1 }).readNumbers();
    let tight = 0;
    for (let head = 0; head < 6; head++) {
      for (let query = 0; query < 3; query++) {
        for (let position = 0; position <= 93 + query; position++) {
          const score = dot(row(q, head * 3 + query), row(keys, Math.floor(head / 3) * 96 + position));
          const bound = y[(head * 3 + query) * 12 + Math.floor(position / page)];
          expect(bound).toBeGreaterThanOrEqual(score - 1e-4);
          if (bound < score + 20) tight++;
        }
      }
    }
    expect(tight).toBeGreaterThan(0);
  });
});

describe('antidiagonal scores', () => {
  it('of a block sum to its strided rows', async () => {
    const [q, k] = random(7, 3, 1, 200, 200, 16);
    const y = await antidiagonalScores(put(native, q), put(native, k), { stride: 8, block: 64 }).readNumbers();
    const sums = Array.from({ length: 12 }, (_, at) => [...y.slice(at * 4, at * 4 + 4)].reduce((a, b) => a + b, 0));
    for (const [at, sum] of sums.entries()) expect(sum).toBeCloseTo(at % 4 < 3 ? 8 : 1, 3);
  });

  it('see a diagonal at an odd distance, which every antidiagonal of a cell meets', async () => {
    // q_i · k_j is large where j = i − 41 alone.
    const dim = 64;
    const angles = (length: number, shift: number): HostTensor => ({
      shape: [1, 1, length, dim],
      dtype: 'f32',
      data: Float32Array.from({ length: length * dim }, (_, at) => {
        const [position, channel] = [Math.floor(at / dim) - shift, at % dim];
        // Frequencies without a common period.
        const angle = position * (0.1 + 2.9 * (((Math.floor(channel / 2) + 1) ** 2 * 0.7320508) % 1));
        return channel % 2 === 0 ? Math.cos(angle) : Math.sin(angle);
      }),
    });
    const scores = antidiagonalScores(put(native, angles(256, 41)), put(native, angles(256, 0)), {
      stride: 4,
      block: 16,
      scale: 2,
    });
    const y = await scores.readNumbers();
    for (let block = 3; block < 16; block++) {
      const found = y.slice(block * 16, block * 16 + 16);
      expect(found.indexOf(Math.max(...found))).toBe(block - 3);
    }
  });

  it('of a chunk are the rows of the whole prompt', async () => {
    const [q, k] = random(9, 2, 1, 192, 192, 16);
    const tail = {
      ...q,
      shape: [1, 2, 64, 16],
      data: Float32Array.from([0, 1].flatMap((head) => [...q.data.subarray((head * 192 + 128) * 16, (head + 1) * 192 * 16)])),
    };
    const options = { stride: 8, block: 64 };
    const y = await antidiagonalScores(put(native, q), put(native, k), options).readNumbers();
    const last = await antidiagonalScores(put(native, tail), put(native, k), options).readNumbers();
    expect([...last]).toEqual([...y.slice(6, 9), ...y.slice(15, 18)]);
  });
});

describe('low-bit dots', () => {
  it.each([4, 8] as const)('of %i bits stay within the bound of their rounding', async (bits) => {
    const [length, dim] = [70, 48];
    const [q, k] = random(11, 1, 1, length, length, dim);
    const limit = put(native, { shape: [1, 1, length], dtype: 'f32', data: new Float32Array(length) });
    const y = await quantDot(put(native, q), put(native, k), limit, { bits, blockQ: 1, blockK: 1, scale: 1 }).readNumbers();
    const centred = [q, k].map((host) => {
      const rows = Array.from({ length }, (_, at) => row(host, at));
      const mean = Float64Array.from(
        { length: dim },
        (_, channel) => rows.reduce((sum, own) => sum + own[channel], 0) / length,
      );
      return rows.map((own) => own.map((value, channel) => value - mean[channel]));
    });
    const step = (own: Float64Array): number => Math.max(...own.map(Math.abs)) / (bits === 4 ? 7 : 127);
    const norm = (own: Float64Array): number => own.reduce((sum, value) => sum + Math.abs(value), 0);
    for (let query = 0; query < length; query++) {
      for (let key = 0; key <= query; key++) {
        const [a, b] = [centred[0][query], centred[1][key]];
        const most = 0.5 * (step(a) * norm(b) + step(b) * norm(a)) + 0.25 * dim * step(a) * step(b);
        expect(Math.abs(y[query * length + key] - dot(row(q, query), row(k, key)))).toBeLessThanOrEqual(most + 1e-4);
      }
    }
  });
});

describe('tree search', () => {
  it('keeps every visible block when there are no more than it may keep', async () => {
    const [q, k] = random(13, 2, 1, 40, 100, 8);
    const bits = await chunkDescent(put(native, q), put(native, k), { keep: 50, blockQ: 16, blockK: 2 }).readNumbers();
    for (const [index, last] of [75, 91, 99].entries()) {
      const words = bits.slice(2 * index, 2 * index + 2);
      const kept = [...words].flatMap((word) => Array.from({ length: 32 }, (_, bit) => Math.floor(word / 2 ** bit) % 2));
      expect(kept).toEqual(Array.from({ length: 64 }, (_, block) => (block <= Math.floor(last / 2) ? 1 : 0)));
    }
  });

  it('finds the peak of smooth scores', async () => {
    const [length, peak] = [512, 300];
    const q: HostTensor = { shape: [1, 1, 1, 2], dtype: 'f32', data: Float32Array.from([1, 1]) };
    const data = Float32Array.from({ length: 2 * length }, (_, at) =>
      at % 2 === 0 ? -Math.abs(Math.floor(at / 2) - peak) : 0,
    );
    const k: HostTensor = { shape: [1, 1, length, 2], dtype: 'f32', data };
    const bits = await chunkDescent(put(native, q), put(native, k), { keep: 16, blockK: 2 }).readNumbers();
    const kept = [...bits].flatMap((word, index) =>
      Array.from({ length: 32 }, (_, bit) => ({ block: 32 * index + bit, on: Math.floor(word / 2 ** bit) % 2 === 1 })),
    );
    const found = kept.filter(({ on }) => on).map(({ block }) => block);
    expect(found).toEqual(Array.from({ length: 16 }, (_, index) => 142 + index));
  });
});

describe('row statistics', () => {
  it('are the two parts of the log-sum-exp of the executor', async () => {
    const [q, k] = random(15, 4, 2, 90, 90, 32);
    const mask = streaming({ sinks: 4, window: 20 })({ batch: 1, heads: 4, lenQ: [90], lenK: [90] });
    const plan = planTensor(native, lowerMask(mask));
    const [queries, keys] = [put(native, q), put(native, k)];
    const stats = rowStats(queries, keys, plan);
    const [largest, sum] = [await stats.largest.readNumbers(), await stats.sum.readNumbers()];
    const lse = await plannedAttention(queries, keys, keys, plan).lse.readNumbers();
    for (const [at, value] of lse.entries()) expect(largest[at] + Math.log(sum[at])).toBeCloseTo(value, 4);
  });
});

describe('labels', () => {
  it('of every channel give the scores themselves', async () => {
    const dim = 16;
    const [q, k] = random(17, 4, 2, 3, 50, dim);
    const labels = put(native, { ...k, data: new Float32Array(k.data.length) });
    const keys = put(native, k);
    const channels = integers(
      native,
      [...Array(2 * dim).keys()].map((index) => dim - 1 - (index % dim)),
      [2, dim],
    );
    appendLabelsOp({ labels, k: keys, channels, slots: integers(native, [...Array(50).keys()]) }, {});
    const y = await labelScores(put(native, q), { labels, channels }, { scale: 1 }).readNumbers();
    for (let head = 0; head < 4; head++) {
      for (let position = 0; position < 48; position++) {
        const score = dot(row(q, head * 3), row(k, Math.floor(head / 2) * 50 + position));
        expect(y[head * 3 * 50 + position]).toBeCloseTo(score, 3);
      }
      expect(y[head * 3 * 50 + 48]).toBeLessThan(-1e29);
    }
  });
});

describe('larger calls', () => {
  const [q, k] = random(19, 6, 2, 333, 515, 64);
  const limit = seededTensor(21, [1, 6, 333]);
  const calls: Readonly<Record<string, (backend: Backend) => Tensor>> = {
    'antidiagonal scores': (backend) => antidiagonalScores(put(backend, q), put(backend, k), { stride: 8, block: 128 }),
    'low-bit dots': (backend) => quantDot(put(backend, q), put(backend, k), put(backend, limit), { bits: 8 }),
    'tree search': (backend) => chunkDescent(put(backend, whole(q)), put(backend, whole(k)), { keep: 24 }),
  };

  it.each(Object.entries(calls))('%s are the same on one thread', async (_, run) => {
    expect(await run(native).readNumbers()).toEqual(await run(single).readNumbers());
  });

  it.each(Object.entries(calls))('%s are those of the definition', { timeout: 60_000 }, async (_, run) => {
    const [actual, expected] = [await run(native).readNumbers(), await run(reference).readNumbers()];
    // A code that lies between two numbers may round either way.
    for (const [at, value] of expected.entries()) expect(Math.abs(actual[at] - value)).toBeLessThanOrEqual(2e-2);
  });
});
