import { ExecutionError, Random } from '@filigree/core-tensor';
import { kvZip, type LayerScores } from '@filigree/kv-cache';
import { describe, expect, it } from 'vitest';

const length = 40;
const options = { budget: 10, chunk: 16, overlap: 2, sinks: 3, layerwise: false, plus: false };

/** Two layers of two heads; the scores of a head are larger the later it is. */
function scores(random: Random): LayerScores[] {
  return [1, 4].map((layer, index) => ({
    layer,
    rows: [1, 2].map((head) => Float32Array.from({ length }, () => random.nextFloat() * (2 * index + head) * 0.1)),
  }));
}

describe('KVzip', () => {
  it('keeps the largest scores of all heads of all layers, and the first entries', () => {
    const found = scores(new Random(1));
    const kept = kvZip(options).repeat.choose(found, length);
    const lists = kept.flat();
    expect(lists.reduce((sum, ids) => sum + ids.length, 0)).toBe(4 * 10);
    for (const ids of lists) expect(Array.from(ids.subarray(0, 3))).toEqual([0, 1, 2]);
    const rows = found.flatMap(({ rows }) => rows);
    const taken = lists.flatMap((ids, head) => Array.from(ids.subarray(3), (id) => rows[head][id]));
    const left = rows.flatMap((row, head) => Array.from(row).filter((_, id) => !lists[head].includes(id)));
    expect(Math.min(...taken)).toBeGreaterThanOrEqual(Math.max(...left));
    expect(lists[3].length).toBeGreaterThan(lists[0].length);
  });

  it('gives each layer the same when layers do not compete', () => {
    const kept = kvZip({ ...options, layerwise: true }).repeat.choose(scores(new Random(2)), length);
    for (const lists of kept) expect(lists[0].length + lists[1].length).toBe(20);
  });

  it('asks for attention by what it does to the output only as KVzip+', () => {
    expect(kvZip(options).repeat.weighted).toBe(false);
    expect(kvZip({ ...options, plus: true }).repeat.weighted).toBe(true);
  });

  it.each([1, 3, 4, 39])('keeps a budget of %s', (budget) => {
    const lists = kvZip({ ...options, budget })
      .repeat.choose(scores(new Random(3)), length)
      .flat();
    expect(lists.reduce((sum, ids) => sum + ids.length, 0)).toBe(4 * budget);
    for (const ids of lists) expect(Array.from(ids)).toEqual([...new Set(ids)].sort((a, b) => a - b));
  });

  it('says which score is NaN', () => {
    const found = scores(new Random(4));
    found[1].rows[1][7] = NaN;
    expect(() => kvZip(options).repeat.choose(found, length)).toThrow(ExecutionError);
    expect(() => kvZip(options).repeat.choose(found, length)).toThrow('kvzip: the score of entry 7, head 1 of layer 4, is NaN');
  });

  it.each([{ chunk: 0 }, { overlap: -1 }, { sinks: 0.5 }, { budget: -3 }])('refuses %o', (wrong) => {
    expect(() => kvZip({ ...options, ...wrong })).toThrow(new RegExp(`kvzip: ${Object.keys(wrong)[0]} is`));
  });
});
