import { describe, expect, it } from 'vitest';
import { formatHeadPlan, headGroups, layerPlan, parseHeadPlan, type HeadPlan } from '../src/index.js';

const model = { name: 'test', layers: 2, heads: 3, kvHeads: 1 };
const plan: HeadPlan = {
  ...layerPlan(model, () => ({ method: 'dense', options: {} }), { budget: 0.5, texts: 'book', done: true }),
  layers: [
    {
      heads: [
        { method: 'streaming-llm', options: { sinks: 4, window: 8 } },
        { method: 'dense', options: {} },
        { method: 'streaming-llm', options: { window: 8, sinks: 4 } },
      ],
    },
    { heads: [0, 1, 2].map(() => ({ method: 'sliding-window', options: { window: 3 } })) },
  ],
};

/** The plan's JSON with a field replaced. */
function changed(change: Record<string, unknown>): string {
  return JSON.stringify({ ...plan, ...change });
}

describe('head plan', () => {
  it('is read as it was written', () => {
    expect(parseHeadPlan(formatHeadPlan(plan), model)).toEqual(plan);
  });

  it('runs heads of the same choice together, whatever the order of its options', () => {
    expect(headGroups(plan, 0).map(({ method, heads }) => [method, heads])).toEqual([
      ['streaming-llm', [0, 2]],
      ['dense', [1]],
    ]);
    expect(headGroups(plan, 1)).toEqual([{ method: 'sliding-window', options: { window: 3 }, heads: [0, 1, 2] }]);
    expect(() => headGroups(plan, 2)).toThrow('head plan: layer is 2, the plan has 2');
  });

  it.each([
    ['another number of layers', { ...model, layers: 3 }, 'it was made for 2 layers (test), the model has 3'],
    ['another number of heads', { ...model, heads: 4 }, 'it was made for 3 heads (test), the model has 4'],
    ['another number of key-value heads', { ...model, kvHeads: 3 }, 'it was made for 1 kvHeads (test), the model has 3'],
  ])('is refused for %s', (_name, shape, message) => {
    expect(() => parseHeadPlan(formatHeadPlan(plan), shape)).toThrow(message);
  });

  it.each([
    ['no JSON', '{', 'it is no JSON'],
    ['an array', '[]', 'it is no JSON object'],
    ['another version', changed({ version: 2 }), 'version is 2, this reads 1'],
    ['no model', changed({ model: undefined }), 'model is missing'],
    ['half a layer', changed({ model: { ...model, layers: 1.5 } }), 'model.layers is 1.5'],
    ['a missing layer', changed({ layers: plan.layers.slice(1) }), 'layers has 1 entries, model.layers is 2'],
    ['a missing head', changed({ layers: [plan.layers[0], { heads: [] }] }), 'layers[1].heads has 0 entries, model.heads is 3'],
    ['an option that is a list', changed({ calibration: { budget: [1] } }), 'calibration.budget is [1]'],
  ])('%s is refused', (_name, json, message) => {
    expect(() => parseHeadPlan(json)).toThrow(message);
  });

  it.each([
    [{ method: 'fast', options: {} }, 'there is no method "fast"'],
    [{ method: 'sliding-window', options: { windw: 3 } }, 'sliding-window: there is no option "windw"'],
    [{ method: 'sliding-window', options: { window: 0 } }, 'sliding-window: window is 0'],
    [{ options: {} }, 'layers[1].heads[2].method is missing'],
  ])('names the head whose choice is wrong: %j', (choice, message) => {
    const heads = [...plan.layers[1].heads.slice(0, 2), choice];
    const read = (): unknown => parseHeadPlan(changed({ layers: [plan.layers[0], { heads }] }));
    expect(read).toThrow(message);
    expect(read).toThrow('layers[1].heads[2]');
  });
});
