import { describe, expect, it } from 'vitest';
import type { PoolFigure } from '../src/pool/pool-program.js';
import { poolRecords } from '../src/pool/pool-records.js';
import { threadCounts } from '../src/suites/pool.js';

const figures = (latency: number, speed: number): PoolFigure[] => [
  { work: 'empty loop', unit: 'µs', value: latency, bytes: 0 },
  { work: 'a step', unit: 'tokens/s', value: speed, bytes: 1e8 },
];
const ceiling = { readGBps: 20, f32GFLOPs: 1, int8GOPs: 1 };

describe('the pool suite', () => {
  const [latency, step] = poolRecords({
    threads: 2,
    ours: [figures(1, 100), figures(3, 90), figures(2, 110)],
    peer: [figures(4, 50), figures(4, 50), figures(8, 10)],
    ceilings: [ceiling, ceiling],
    cpu: 'here',
  });

  it('compares the medians of the rounds, a latency as better when it is less', () => {
    expect(latency).toMatchObject({ ours: 2, peer: 4, peerName: 'rayon', ratio: 2, unit: 'µs' });
    expect(step).toMatchObject({ ours: 100, peer: 50, ratio: 2, rounds: { ours: [100, 90, 110], peer: [50, 50, 10] } });
  });

  it('bounds a step by the bytes that it reads, and a latency by nothing', () => {
    expect(step).toMatchObject({ bound: 200, boundRatio: 0.5 });
    expect(latency.bound).toBeNull();
  });

  it.each([
    [1, [1]],
    [2, [1, 2]],
    [6, [1, 2, 4, 6]],
  ])('measures up to %i threads', (most, counts) => {
    expect(threadCounts(most)).toEqual(counts);
  });
});
