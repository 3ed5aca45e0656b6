import { createReferenceBackend, OptionError, Random } from '@filigree/core-tensor';
import { compressKvCalibration, formatKvPlan, kvMethod, kvMethods, parseKvPlan, type KvPlan } from '@filigree/kv-cache';
import { describe, expect, it } from 'vitest';
import { kept, randomLayer } from './support/compress-context.js';
import { planFor } from './support/kv-plan.js';

const plan = planFor({ layers: 2, heads: 4, kvHeads: 2 });
const planned = kvMethods.filter((method) => method.planned).map(({ id }) => id);
const backend = createReferenceBackend();

describe('a plan of heads', () => {
  it('is JSON that comes back as it was', () => {
    expect(parseKvPlan(formatKvPlan(plan), plan.model)).toEqual(plan);
  });

  it.each([
    ['no JSON', '{', /it is no JSON/],
    ['a list', '[]', /no JSON object/],
    ['another version', JSON.stringify({ ...plan, version: 2 }), /version is 2, this reads 1/],
    ['no shape', JSON.stringify({ ...plan, model: { name: 'x' } }), /model.layers is undefined/],
    ['no figures', JSON.stringify({ ...plan, figures: undefined }), /figures is missing/],
    ['a layer less', JSON.stringify({ ...plan, figures: { gates: [[1, 2]] } }), /figures.gates must be .* 2 layers/],
    [
      'a figure that is none',
      JSON.stringify({
        ...plan,
        figures: {
          gates: [
            [1, null],
            [1, 2],
          ],
        },
      }),
      /figures.gates/,
    ],
  ])('with %s is refused', (_name, json, message) => {
    expect(() => parseKvPlan(json)).toThrow(OptionError);
    expect(() => parseKvPlan(json)).toThrow(message);
  });

  it('of another shape than the model is refused', () => {
    expect(() => parseKvPlan(formatKvPlan(plan), { layers: 2, heads: 8, kvHeads: 2 })).toThrow(/made for 4 heads .* has 8/);
  });

  it.each(planned)('%s needs one, and says how to make it', (id) => {
    expect(() => kvMethod(id).create()).toThrow(OptionError);
    expect(() => kvMethod(id).create()).toThrow(new RegExp(`filigree calibrate --method ${id}`));
    const other: KvPlan = { ...plan, figures: { others: [[1], [2]] } };
    expect(() => kvMethod(id).create({}, other)).toThrow(/the plan has no figures/);
    const wrong: KvPlan = {
      ...plan,
      figures: Object.fromEntries(Object.keys(plan.figures).map((name) => [name, [[1, 2, 3], []]])),
    };
    expect(() => kvMethod(id).create({}, wrong)).toThrow(/3 figures .* of layer 0/);
  });

  it('other methods take none', () => {
    expect(() => kvMethod('snap-kv').create({}, plan)).toThrow(/takes no plan/);
  });

  it('chooses the heads that vote, and counts layers without figures as average ones', () => {
    const some: KvPlan = {
      ...plan,
      figures: { retrieval: [[0.1, 0.4, 0.4, 0.2], []], error: [[0.3], []] },
    };
    expect(compressKvCalibration(some, 2)).toEqual({ heads: [[1, 2], []], errors: [0.3, 0.3] });
  });

  it.each(planned)('%s refuses a model of another shape', async (id) => {
    const data = randomLayer(new Random(1), { heads: 4, kvHeads: 2, length: 30, dim: 4 });
    const options = 'budget' in kvMethod(id).options ? { budget: 4 } : { sinks: 1 };
    const compressor = kvMethod(id).create(options, plan);
    const running = (async () => {
      compressor.budget(30, 0, 3);
      await kept(backend, compressor, data, { layers: 3 });
    })();
    await expect(running).rejects.toThrow(OptionError);
  });

  it('RazorAttention keeps all of a retrieval head, and of others the first, a share that grows and a mean', async () => {
    const data = randomLayer(new Random(2), { heads: 4, kvHeads: 2, length: 40, dim: 4 });
    const create = (minLocal: number) =>
      kvMethod('razor-attention').create({ induction: 0.25, echo: 0, sinks: 2, minLocal, compression: 5 }, plan);
    // The last head of the last layer has the largest figure.
    const lengths = async (minLocal: number, layer: number): Promise<number[]> =>
      (await kept(backend, create(minLocal), data, { layer, layers: 2 })).map((ids) => ids.length);
    expect(await lengths(3, 0)).toEqual([11, 11]);
    expect(await lengths(3, 1)).toEqual([11, 40]);
    expect(await lengths(12, 0)).toEqual([15, 15]);
    expect(await lengths(40, 0)).toEqual([40, 40]);
    const [ids] = await kept(backend, create(3), data, { layers: 2 });
    expect(Array.from(ids)).toEqual([0, 1, 2, 32, 33, 34, 35, 36, 37, 38, 39]);
  });
});
