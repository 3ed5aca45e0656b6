import { describe, expect, it } from 'vitest';
import { panelsOf } from '../src/plot/panels.js';
import { renderSvg } from '../src/plot/render-svg.js';
import { plotPath } from '../src/plot/write-plot.js';
import { benchRecord, type Measurement } from '../src/record.js';

const speed = (work: string, ours: number, more: Partial<Measurement> = {}) =>
  benchRecord({
    suite: 'test',
    group: 'decode',
    work,
    ours,
    unit: 'tokens/s',
    peer: { name: 'them', value: 7 },
    cpu: 'here',
    ...more,
  });

const contexts = [128, 1024, 8128].flatMap((context) => [
  speed(`after ${context}`, 200 - context / 100, { context, bound: 300 }),
  speed(`after ${context}, windowed`, 190, {
    context,
    oursName: 'ours, windowed',
    peer: { name: 'ours, dense', value: 200 - context / 100 },
    bound: 290,
  }),
]);

describe('panels', () => {
  it('are one for each group and unit', () => {
    const records = [speed('a', 1), speed('b', 2), speed('c', 3, { group: 'prefill' }), speed('d', 4, { unit: 'ms' })];
    expect(panelsOf(records).map(({ title, unit, works }) => [title, unit, works])).toEqual([
      ['decode', 'tokens/s', ['a', 'b']],
      ['prefill', 'tokens/s', ['c']],
      ['decode', 'ms', ['d']],
    ]);
  });

  it('have a bar of every contender at the work it did', () => {
    const [{ series }] = panelsOf([
      speed('a', 1),
      speed('a', 1, { peer: { name: 'others', value: 8 } }),
      speed('b', 2, { bound: 9 }),
    ]);
    expect(series).toEqual([
      {
        name: 'ours',
        boundOf: null,
        points: [
          [0, 1],
          [1, 2],
        ],
      },
      {
        name: 'them',
        boundOf: null,
        points: [
          [0, 7],
          [1, 7],
        ],
      },
      { name: 'others', boundOf: null, points: [[0, 8]] },
      { name: 'bound', boundOf: 'ours', points: [[1, 9]] },
    ]);
  });

  it('have lines where the context varies, ours under one name', () => {
    const [{ works, series }] = panelsOf(contexts);
    expect(works).toBeNull();
    expect(series.map(({ name, points }) => [name, points.length])).toEqual([
      ['ours', 3],
      ['them', 3],
      ['ours, windowed', 3],
      ['bound', 3],
      ['bound, windowed', 3],
    ]);
  });

  it('leave out what was not measured', () => {
    expect(panelsOf([speed('a', NaN)])[0].series[0].points).toEqual([]);
  });
});

describe('the plot', () => {
  it('is an SVG that names works, contenders, units and the machine', () => {
    const svg = renderSvg('a title', [speed('some work', 5)]);
    expect(svg).toMatch(/^<svg [^>]*xmlns="http:\/\/www.w3.org\/2000\/svg"/);
    for (const text of ['a title', 'some work', 'ours', 'them', 'tokens/s, more is better', 'here'])
      expect(svg).toContain(`>${text}<`);
  });

  it('draws the context as an axis', () => {
    expect(renderSvg('a title', contexts)).toContain('>tokens in the cache<');
  });

  it('goes to the file named, or into the folder', () => {
    expect(plotPath('out/a.svg', 'types')).toBe('out/a.svg');
    expect(plotPath('out', 'types')).toBe('out/types.svg');
  });
});
