import { fromArray, matmul, permute, reshape, type Backend, type Tensor } from '@filigree/core-tensor';
import { kvMethod, probabilities, StreamCache, type CompressContext, type Compressor } from '@filigree/kv-cache';
import { cellPattern, type Pattern } from '@filigree/sparse-attention';
import type { Model } from '@filigree/transformer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { backends, loadTiny } from './support/tiny.js';

const context = Array.from({ length: 150 }, (_, index) => (index * 31) % 200);
const question = [5, 6, 7];

/** Keeps the entries it is told to, by layer, and says what it was shown. */
function cascade(lists: readonly Uint32Array[], shown: CompressContext[] = []): Compressor {
  return {
    ...{ id: 'given', queries: 0, queryAgnostic: true, cascade: true },
    budget: (_, layer) => lists[layer].length,
    compress: (seen) => {
      shown.push(seen);
      return Promise.resolve(Array.from({ length: seen.kvHeads }, () => lists[seen.layer]));
    },
  };
}

describe.each(backends)('a cascade of tokens on %s', (_name, create) => {
  let backend: Backend;
  let model: Model;

  beforeAll(async () => {
    backend = create();
    model = await loadTiny({ backend, kvType: 'f32' });
  });

  afterAll(() => {
    model.dispose();
    backend.dispose();
  });

  it('computes later layers for the tokens that are left, at their positions', async () => {
    const first = Uint32Array.from(context.keys()).filter((id) => id % 3 !== 1);
    const second = Uint32Array.from(first.keys()).filter((id) => id % 2 === 1);
    const shown: CompressContext[] = [];
    const before = backend.memory().liveBytes;
    const prefix = await model.prefill(context, { kv: cascade([first, second], shown) });
    expect(shown.map(({ length, k }) => [length, k.shape[1]])).toEqual([
      [150, 150],
      [100, 100],
    ]);
    const session = prefix.fork();
    const { cache } = session;
    if (!(cache instanceof StreamCache)) throw new TypeError('a compressed prefix has streams');
    expect(Array.from(cache.positions(0, 0))).toEqual(Array.from(first));
    expect(Array.from(cache.positions(1, 1))).toEqual(Array.from(second, (id) => first[id]));
    expect(cache.positionsEnd).toBe(150);
    session.dispose();
    prefix.dispose();
    expect(backend.memory().liveBytes).toBe(before);
  });

  it('is attention that does not see in later layers what was dropped', async () => {
    const first = Uint32Array.from(context.keys()).filter((id) => id % 3 !== 1);
    const left = new Set(first);
    const tokens = [...context, ...question];
    // What questions see, in both layers, and what the rows that are left see in the second.
    const sees = (row: number, key: number): boolean => key <= row && (left.has(key) || key >= context.length);
    const pattern: Pattern = (shape) =>
      cellPattern(shape, ({ position }) =>
        position < context.length
          ? [[0, position + 1]]
          : [...tokens.keys()].filter((key) => sees(position, key)).map((key) => [key, key + 1] as const),
      );
    const seen: Record<string, Tensor> = {};
    const part = (name: string) => [`layers.1.attention.${name}`, (x: Tensor) => void (seen[name] = x.view(x.shape))] as const;
    const secondLayer = (mixed: Tensor): Tensor => {
      const { kvHeads, attentionScale: scale } = model.config;
      const [count, heads, dim] = seen['query'].shape;
      const cells = Float32Array.from({ length: count * count }, (_, cell) =>
        sees(Math.floor(cell / count), cell % count) || cell % (count + 1) === 0 ? 0 : -Infinity,
      );
      const mask = fromArray(backend, cells, [count, count]);
      const chances = probabilities(seen['query'], permute(seen['key'], [1, 0, 2]), { mask, scale, softcap: 0 });
      const grouped = reshape(chances, [kvHeads, (heads / kvHeads) * count, count]);
      const o = reshape(matmul(grouped, permute(seen['value'], [1, 0, 2])), [heads, count, dim]);
      return reshape(permute(o, [1, 0, 2]), mixed.shape);
    };
    const whole = await model.run(tokens, {
      read: Object.fromEntries(['query', 'key', 'value'].map(part)),
      replace: { 'layers.1.attention.mixed': secondLayer },
      attention: { prefill: pattern },
    });
    const expected = ((await whole.read()) as Float32Array).slice(-question.length * model.config.vocabularySize);
    for (const tensor of [whole, ...Object.values(seen)]) tensor.dispose();
    const prefix = await model.prefill(context, { kv: cascade([first, Uint32Array.from(first.keys())]) });
    const logits = await prefix.logits(question);
    const found = (await logits.read()) as Float32Array;
    expect(found.length).toBe(expected.length);
    for (const [index, logit] of found.entries()) expect(Math.abs(logit - expected[index])).toBeLessThan(5e-4);
    logits.dispose();
    prefix.dispose();
  });

  it('SpAtten keeps fewer tokens the later the layer, its budget on average, and adds up over layers', async () => {
    const kv = { method: 'spatten', options: { budget: 80, sinks: 4, recent: 16, beta: 2 } };
    const prefix = await model.prefill(context, { kv });
    const session = prefix.fork();
    const { cache } = session;
    if (!(cache instanceof StreamCache)) throw new TypeError('a compressed prefix has streams');
    const [early, late] = [0, 1].map((layer) => Array.from(cache.positions(layer, 0)));
    expect(early.length + late.length).toBe(160);
    expect(early.length).toBeGreaterThan(late.length);
    for (const position of late) expect(early).toContain(position);
    for (const position of [0, 1, 2, 3, 134, 149]) expect(late).toContain(position);
    session.dispose();
    prefix.dispose();
    expect(kvMethod('spatten').create(kv.options).cascade).toBe(true);
  });

  it('refuses prompts that were read already', async () => {
    const prefix = await model.prefill(context);
    const kv = { method: 'spatten', options: { budget: 40 } };
    await expect(prefix.extend(question, { kv })).rejects.toThrow(/Model.prefill/);
    prefix.dispose();
  });
});
