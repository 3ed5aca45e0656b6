import { createReferenceBackend, OptionError, Random } from '@filigree/core-tensor';
import { gatePlan, streamingHeads } from '@filigree/kv-cache';
import { formatHeadPlan, parseHeadPlan } from '@filigree/sparse-attention';
import { describe, expect, it } from 'vitest';
import { kept, randomLayer } from './support/compress-context.js';

const model = { name: 'test', layers: 2, heads: 4, kvHeads: 2 };
const gates = [
  [0.9, 0.1],
  [0.2, 0.3],
];
const backend = createReferenceBackend();
const data = randomLayer(new Random(1), { heads: 4, kvHeads: 2, length: 20, dim: 4 });
const all = Array.from({ length: 20 }, (_, id) => id);
const ends = [0, 1, 17, 18, 19];

describe('retrieval and streaming heads', () => {
  it('stream where gates are smallest', () => {
    const dense = (sparsity: number): boolean[][] =>
      gatePlan(model, gates, { sparsity }).layers.map(({ heads }) => heads.map(({ method }) => method === 'dense'));
    expect(dense(0.5)).toEqual([
      [true, true, false, false],
      [false, false, true, true],
    ]);
    expect(dense(0).flat()).not.toContain(false);
    expect(dense(1).flat()).not.toContain(true);
  });

  it('keep all entries, or both ends', async () => {
    const compressor = streamingHeads(gatePlan(model, gates, { sparsity: 0.5 }), { sinks: 2, recent: 3 });
    const lists = await kept(backend, compressor, data, { layers: 2 });
    expect(lists.map((ids) => Array.from(ids))).toEqual([all, ends]);
    const other = await kept(backend, compressor, data, { layer: 1, layers: 2 });
    expect(other.map((ids) => Array.from(ids))).toEqual([ends, all]);
    expect(compressor.budget(20, 0, 2)).toBe(13);
  });

  it('keep short prompts whole', async () => {
    const compressor = streamingHeads(gatePlan(model, gates, { sparsity: 1 }), { sinks: 4, recent: 16 });
    expect((await kept(backend, compressor, data, { layers: 2 })).map((ids) => Array.from(ids))).toEqual([all, all]);
    expect(compressor.budget(20, 0, 2)).toBe(20);
  });

  it('come from a plan that is JSON', () => {
    const plan = gatePlan(model, gates, { sparsity: 0.5 });
    expect(parseHeadPlan(formatHeadPlan(plan), model)).toEqual(plan);
  });

  it('refuse what is of another shape', () => {
    const plan = gatePlan(model, gates, { sparsity: 0.5 });
    expect(() => gatePlan(model, [[1, 0]], { sparsity: 0.5 })).toThrow(OptionError);
    expect(() => gatePlan(model, [[1], [0]], { sparsity: 0.5 })).toThrow(OptionError);
    expect(() =>
      gatePlan(
        model,
        [
          [1, NaN],
          [0, 1],
        ],
        { sparsity: 0.5 },
      ),
    ).toThrow(/gate 1/);
    expect(() => gatePlan(model, gates, { sparsity: -1 })).toThrow(/sparsity/);
    expect(() => streamingHeads(plan, { sinks: -1, recent: 3 })).toThrow(/sinks/);
    expect(() => streamingHeads(plan, { sinks: 1, recent: 3 }).budget(20, 0, 3)).toThrow(/2 layers/);
  });
});
