import { createReferenceBackend } from '@filigree/core-tensor';
import { doubleSparsity, doubleSparsityMethod } from '@filigree/sparse-attention';
import { afterAll, describe, expect, it } from 'vitest';
import { span } from './support/mask-keys.js';
import { planted, type PlantedPrompt } from './support/planted.js';
import { exactWeights } from './support/recall.js';
import { keysSeen } from './support/run.js';

const backend = createReferenceBackend();
afterAll(() => {
  backend.dispose();
});

const options = { heavy: 32, recent: 4, denseLayers: 0 };
const step = { from: [390], decode: true, pageSize: 32 };

/** Mean share of the 32 keys with the greatest scores that the last ten queries of all heads see. */
async function recall(prompt: PlantedPrompt, own: { readonly share?: number; readonly channels?: string }): Promise<number> {
  const keys = await keysSeen(backend, doubleSparsityMethod.create({ ...options, ...own }), prompt, step);
  const shares = keys.flatMap((queries, head) =>
    queries.map((seen, query) => {
      const weights = exactWeights(prompt, head, 390 + query);
      const best = span(0, 391 + query).sort((a, b) => weights[b] - weights[a]);
      return best.slice(0, 32).filter((key) => seen.includes(key)).length / 32;
    }),
  );
  return shares.reduce((a, b) => a + b, 0) / shares.length;
}

describe('Double Sparsity', () => {
  const noise = planted({ seed: 1, length: 400, heads: 4, kvHeads: 1, dim: 64, noise: 1 });

  it('finds more of the best keys the more channels it has, and all of them with all', async () => {
    const found: number[] = [];
    for (const share of [0.125, 0.25, 0.5, 1]) found.push(await recall(noise, { share }));
    expect([...found].sort((a, b) => a - b)).toEqual(found);
    expect(found[3]).toBe(1);
  });

  it('finds more with the channels that carry the scores than with its guess', async () => {
    // Eight channels have four times the size of the others, as outliers of real keys have.
    const loud = [1, 5, 6, 11, 33, 40, 41, 62];
    const grow = (rows: Float32Array): Float32Array =>
      rows.map((value, index) => (loud.includes(index % 64) ? 4 * value : value));
    const prompt = { ...noise, q: grow(noise.q), k: grow(noise.k) };
    const guessed = await recall(prompt, { share: 0.125 });
    const calibrated = await recall(prompt, { channels: loud.join(' ') });
    expect(calibrated).toBeGreaterThan(guessed + 0.2);
    expect(calibrated).toBeGreaterThanOrEqual(0.8);
  });

  it('sees the newest keys whatever they score', async () => {
    const [keys] = await keysSeen(backend, doubleSparsityMethod.create({ ...options, recent: 20 }), noise, step);
    expect(keys[9]).toEqual(expect.arrayContaining(span(380, 400)));
    expect(keys[9]).toHaveLength(52);
  });

  it('refuses channels that do not fit the model', () => {
    const layer = {
      backend,
      layer: 0,
      layers: 2,
      heads: 2,
      kvHeads: 2,
      headDim: 8,
      pages: 1,
      pageSize: 4,
      dtype: 'f32',
    } as const;
    const init = (channels: string): unknown => doubleSparsity({ ...options, share: 0.25, channels }).init?.(layer);
    expect(() => init('0 1|2 3')).toThrow('channels lists 1 layers, the model has 2');
    expect(() => init('0 1|2 3;0 1')).not.toThrow();
    expect(() => init('0 1|2;0 1|2 3')).toThrow('as many for each of the 2 heads of layer 0');
    expect(() => init('0 1|2 8;0 1|2 3')).toThrow('channels names 8 in layer 0, heads have 8');
    expect(() => init('0 x|2 3;0 1|2 3')).toThrow('channels has "x"');
  });
});
