import { layerPlan, type HeadChoice } from '@filigree/sparse-attention';
import { describe, expect, it } from 'vitest';
import { attentionOf, methodLabel, phaseOf, planRun } from '../src/index.js';

const shape = { name: 'tiny', layers: 2, heads: 4, kvHeads: 2 };
const window: HeadChoice = { method: 'streaming-llm', options: { window: 64 } };
const dense: HeadChoice = { method: 'dense', options: {} };
const prompt: HeadChoice = { method: 'tri-shape', options: {} };
const step: HeadChoice = { method: 'quest', options: {} };

describe('a head plan to evaluate', () => {
  it('is known by its name and by what is in it', async () => {
    const plans = [layerPlan(shape, () => window), layerPlan(shape, (layer) => (layer === 0 ? dense : window))];
    const [first, second, again] = await Promise.all([plans[0], plans[1], plans[0]].map((plan) => planRun('a.json', plan)));
    expect(methodLabel(first)).toMatch(/^head-plan:hash=[0-9a-f]{12},name=a\.json$/);
    expect(methodLabel(second)).not.toBe(methodLabel(first));
    expect(methodLabel(again)).toBe(methodLabel(first));
    expect(attentionOf(first)).toEqual({ plan: plans[0] });
  });

  it('works in the phases of the methods of its heads', async () => {
    const phase = async (...choices: readonly HeadChoice[]) =>
      phaseOf(
        await planRun(
          'a.json',
          layerPlan(shape, (layer) => choices[layer]),
        ),
      );
    expect(await phase(dense, prompt)).toBe('prefill');
    expect(await phase(step, dense)).toBe('decode');
    expect(await phase(step, prompt)).toBe('both');
    expect(await phase(window, prompt)).toBe('both');
    expect(phaseOf({ id: 'quest', options: {} })).toBe('decode');
  });
});
