import { createNativeBackend } from '@filigree/backend-native';
import { minference } from '@filigree/sparse-attention';
import { afterAll, describe, expect, it } from 'vitest';
import { planted } from './support/planted.js';
import { densityOf, recallOf } from './support/recall.js';
import { keysSeen } from './support/run.js';

const backend = createNativeBackend({ threads: 2, fallback: 'error' });
afterAll(() => {
  backend.dispose();
});

/** What the method is, by its definition: sinks, columns, and a band of 64 keys for every distance. */
function expectedKeys(position: number, columns: readonly number[], distances: readonly number[]): number[] {
  const start = position - (position % 64);
  const keys = new Set(columns.filter((key) => key <= position));
  for (const distance of distances)
    for (let key = Math.max(0, start - distance); key < Math.min(start - distance + 64, position + 1); key++) keys.add(key);
  return [...keys].sort((a, b) => a - b);
}

const range = (length: number): number[] => Array.from({ length }, (_, index) => index);

describe('MInference, vertical-slash heads', () => {
  const [verticals, slashes] = [
    [57, 122, 301],
    [180, 260],
  ];
  const prompt = planted({ seed: 3, length: 500, dim: 64, noise: 0.5, plantings: [{ verticals, slashes }] });

  it('finds planted verticals and slashes exactly by asking 64 queries', async () => {
    const options = { vertical: 33, sinkTokens: 30, slash: 50, localDiagonals: 48, lastQ: 64 };
    const keys = await keysSeen(backend, minference.create(options), prompt);
    const [columns, distances] = [
      [...range(30), ...verticals],
      [...range(48), ...slashes],
    ];
    for (const head of keys) expect(head).toEqual(head.map((_, position) => expectedKeys(position, columns, distances)));
  });

  it('holds the attention of planted heads', async () => {
    const keys = await keysSeen(backend, minference.create({ vertical: 40, slash: 60, localDiagonals: 48 }), prompt);
    for (let head = 0; head < 2; head++) expect(recallOf(prompt, keys[head], head)).toBeGreaterThan(0.95);
    expect(densityOf(keys[0])).toBeLessThan(0.9);
  });

  it.each([0.1, 0.3, 0.5, 0.7, 0.9])('finds a needle at %f of the prompt', async (depth) => {
    const needle = Math.floor(500 * depth);
    const policy = minference.create({ vertical: 31, sinkTokens: 30, slash: 50, localDiagonals: 50 });
    const hay = planted({ seed: 5, length: 500, dim: 64, plantings: [{ verticals: [needle] }] });
    const keys = await keysSeen(backend, policy, hay);
    for (const head of keys) expect(head[499]).toContain(needle);
  });

  it('asks the last queries of a chunk', async () => {
    const late = planted({ seed: 4, length: 512, dim: 64, plantings: [{ blocks: [[3, 1]], strength: 16 }] });
    const policy = minference.create({ vertical: 94, sinkTokens: 30, slash: 50, localDiagonals: 50 });
    const [seen] = await keysSeen(backend, policy, late, { from: [192], to: [256] });
    const block = range(64).map((key) => 64 + key);
    expect(seen[63]).toEqual(expect.arrayContaining(block));
  });

  it('refuses options out of range', () => {
    expect(() => minference.create({ lastQ: 0 })).toThrow(/lastQ/);
    expect(() => minference.create({ slash: -1 })).toThrow(/slash/);
    expect(() => minference.create({ last_n: 3 })).toThrow(/last_n/);
  });
});
