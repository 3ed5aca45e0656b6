import { describe, expect, it } from 'vitest';
import { interleaved } from '../src/measure/interleaved.js';

describe('interleaved rounds', () => {
  it('run every contender once a round, in turn, with a probe around each round', async () => {
    const log: string[] = [];
    const contender = (name: string, values: number[]) => () => {
      log.push(name);
      return Promise.resolve(values.shift() ?? NaN);
    };
    const probes = [40, 30, 41].map((readGBps) => ({ readGBps, f32GFLOPs: 1, int8GOPs: 2 }));
    const left = [...probes];
    const result = await interleaved([contender('a', [1, 3]), contender('b', [10, 20])], {
      rounds: 2,
      probe: () => {
        log.push('probe');
        return Promise.resolve(left.shift() ?? probes[0]);
      },
    });
    expect(log).toEqual(['probe', 'a', 'b', 'probe', 'a', 'b', 'probe']);
    expect(result).toEqual({
      values: [
        [1, 3],
        [10, 20],
      ],
      medians: [2, 15],
      ceilings: probes,
    });
  });
});
