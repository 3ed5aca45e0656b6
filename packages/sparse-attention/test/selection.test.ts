import { createNativeBackend } from '@filigree/backend-native';
import { createReferenceBackend, fromArray, Random, seededTensor, type HostTensor, type OpCase } from '@filigree/core-tensor';
import { poolBlocksOp, probeSumsOp, readBits, selectRow, selectRowOp, selectionIndices } from '@filigree/sparse-attention';
import { difference, runCase } from '@filigree/testing';
import * as fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';

const reference = createReferenceBackend();
const native = createNativeBackend({ threads: 2, fallback: 'error' });
const serial = createNativeBackend({ threads: 1, fallback: 'error' });

afterAll(() => {
  for (const backend of [reference, native, serial]) backend.dispose();
});

function scoresOf(seed: number, shape: readonly number[]): HostTensor {
  const random = new Random(seed);
  const size = shape.reduce((product, dimension) => product * dimension, 1);
  return {
    shape,
    dtype: 'f32',
    data: Float32Array.from({ length: size }, () => Math.fround(Math.exp(4 * random.nextNormal()))),
  };
}

describe('select-row', () => {
  it('takes the shortest list of entries that holds the share of the mass', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(0x7fffffff),
        fc.constantFrom(0.1, 0.5, 0.9, 0.99),
        fc.integer({ min: 1, max: 3000 }),
        async (seed, topP, columns) => {
          const { data } = scoresOf(seed, [columns]);
          const { bits, counts } = selectRow(fromArray(native, data, [1, 1, 1, columns]), { topP, blockQ: columns });
          const [chosen] = await readBits(bits);
          for (const tensor of [bits, counts]) tensor.dispose();
          const mass = (entries: readonly number[]): number => entries.reduce((sum, entry) => sum + data[entry], 0);
          const wanted = Math.fround(topP) * mass([...data.keys()]);
          const least = chosen.reduce((a, b) => (data[b] < data[a] ? b : a));
          expect(mass(chosen)).toBeGreaterThanOrEqual(wanted * (1 - 1e-12));
          expect(mass(chosen.filter((entry) => entry !== least))).toBeLessThan(wanted);
          const rest = [...data.keys()].filter((entry) => !chosen.includes(entry));
          expect(rest.every((entry) => data[entry] <= data[least])).toBe(true);
        },
      ),
      { numRuns: 30, seed: 1 },
    );
  });

  it('selects from long lists what the definition selects', async () => {
    for (const [scope, topK, topP] of [
      ['row', 700, 1],
      ['head', 2000, 1],
      ['head', -1, 0.8],
    ] as const) {
      const drawn: OpCase = {
        inputs: { scores: scoresOf(topK + 5, [1, 2, 3, 5000]) },
        attributes: { topK, topP, scope, sinks: 30, local: 3, blockQ: 1700, blockK: 1 },
      };
      const found = difference(
        selectRowOp,
        drawn,
        await runCase(native, selectRowOp, drawn),
        await runCase(reference, selectRowOp, drawn),
      );
      expect(found).toBeUndefined();
    }
  });

  it('keeps everything that is visible when nothing limits it', async () => {
    const { bits, counts } = selectRow(fromArray(native, scoresOf(3, [1, 1, 4, 40]).data, [1, 1, 4, 40]), {
      blockQ: 10,
      blockK: 1,
    });
    expect(Array.from(await counts.readNumbers())).toEqual([10, 20, 30, 40]);
    expect((await readBits(bits)).map((row) => row.length)).toEqual([10, 20, 30, 40]);
    for (const tensor of [bits, counts]) tensor.dispose();
  });
});

describe('probe-sums', () => {
  const drawn = (dtype: 'f32' | 'f16', rows: number, paged: boolean): OpCase => {
    const [pages, page] = paged ? [43, 64] : [1, 2700];
    return {
      inputs: {
        q: seededTensor(1, [1, 6, 100, 64]),
        k: seededTensor(2, [pages, 2, page, 64], { dtype }),
        ...(paged
          ? {
              table: {
                shape: [1, pages],
                dtype: 'i32',
                data: Int32Array.from({ length: pages }, (_, index) => pages - 1 - index),
              },
            }
          : {}),
        lengths: { shape: [1, 2], dtype: 'i32', data: Int32Array.from([97, 2650]) },
      },
      attributes: { rows, scale: 0.125, softcap: 0, queryLayout: 'bhld', lengthK: -1 },
    };
  };

  it.each([
    ['f32', 64, false],
    ['f32', 70, true],
    ['f16', 100, true],
  ] as const)('sums %s keys over %i rows as the definition does (paged: %s)', async (dtype, rows, paged) => {
    const call = drawn(dtype, rows, paged);
    const found = difference(
      probeSumsOp,
      call,
      await runCase(native, probeSumsOp, call),
      await runCase(reference, probeSumsOp, call),
    );
    expect(found).toBeUndefined();
  });

  it('sums more heads than are summed at once', async () => {
    const call: OpCase = {
      inputs: { q: seededTensor(3, [1, 70, 9, 4]), k: seededTensor(4, [1, 7, 1100, 4]) },
      attributes: { rows: 5, scale: 0.5, softcap: 0, queryLayout: 'bhld', lengthK: -1 },
    };
    const [actual, expected] = [await runCase(native, probeSumsOp, call), await runCase(reference, probeSumsOp, call)];
    expect(difference(probeSumsOp, call, actual, expected)).toBeUndefined();
    expect(await runCase(serial, probeSumsOp, call)).toEqual(actual);
  });

  it('gives the same bits on one thread and on two', async () => {
    const call = drawn('f32', 64, false);
    expect(await runCase(serial, probeSumsOp, call)).toEqual(await runCase(native, probeSumsOp, call));
  });
});

describe('pool-blocks', () => {
  it('keeps means of thousands of rows exact', async () => {
    const call: OpCase = {
      inputs: { x: seededTensor(4, [1, 2, 5000, 16], { low: 5, high: 7 }) },
      attributes: { block: 5000, stride: 0, mode: 'mean', layout: 'bhld' },
    };
    expect(
      difference(poolBlocksOp, call, await runCase(native, poolBlocksOp, call), await runCase(reference, poolBlocksOp, call)),
    ).toBeUndefined();
  });
});

describe('selection-indices', () => {
  it('lists the keys that a selection of pages stands for, without those behind the query', async () => {
    const scores = fromArray(native, [1, 9, 3, 8], [1, 1, 1, 4]);
    const { bits } = selectRow(scores, { topK: 2, local: 1, blockK: 16, lengths: fromArray(native, [1, 50], [1, 2], 'i32') });
    const { indices, cells } = selectionIndices(bits, {
      unit: 16,
      slots: 20,
      lengths: fromArray(native, [1, 50], [1, 2], 'i32'),
    });
    const keys = [...Array.from({ length: 16 }, (_, key) => 16 + key), 48, 49, -1, -1];
    expect(Array.from(await indices.readNumbers())).toEqual(keys);
    expect(Array.from(await cells.readNumbers())).toEqual([18]);
  });
});
