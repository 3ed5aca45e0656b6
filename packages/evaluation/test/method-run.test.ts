import { layerPlan, type HeadChoice } from '@filigree/sparse-attention';
import type { KvPlan } from '../src/record.js';
import { describe, expect, it } from 'vitest';
import { attentionOf, kvOf, kvRun, methodLabel, phaseOf, planRun } from '../src/index.js';

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

describe('a method of the cache to evaluate', () => {
  it('is no method of attention, though it may have the name of one', () => {
    const run = kvRun('streaming-llm', { budget: 64 });
    expect(methodLabel(run)).toBe('kv/streaming-llm:budget=64');
    expect(attentionOf(run)).toEqual({});
    expect(phaseOf(run)).toBe('decode');
    expect(kvOf(run)).toEqual({ kv: { method: 'streaming-llm', options: { budget: 64 } }, after: 'context' });
    expect(kvOf({ id: 'streaming-llm', options: {} })).toBeUndefined();
  });

  it('cuts down after the context or after the question, which its label says', () => {
    const run = kvRun('snap-kv', { budget: 64 }, 'question');
    expect(methodLabel(run)).toBe('kv/snap-kv:after=question,budget=64');
    expect(kvOf(run)).toEqual({ kv: { method: 'snap-kv', options: { budget: 64 } }, after: 'question' });
    expect(() => kvOf({ id: 'kv/snap-kv', options: { after: 'noon' } })).toThrow(/after is noon/);
    expect(() => kvRun('snap-kv', { budget: 0 })).toThrow(/budget is 0/);
    expect(() => kvOf({ id: 'kv/none', options: {} })).toThrow(/no method "none"/);
  });

  it('goes by a plan that its label names, with a hash of what is in it', async () => {
    const plan = (gate: number): KvPlan => ({
      version: 1,
      model: shape,
      calibration: {},
      figures: {
        gates: [
          [gate, 0.5],
          [0.1, 0.2],
        ],
      },
    });
    const named = { name: 'heads.json', plan: plan(0.4) };
    const run = kvRun('duo-attention', { sparsity: 0.25 }, 'question', named);
    expect(methodLabel(run)).toMatch(/^kv\/duo-attention:after=question,plan=heads\.json,planHash=[0-9a-f]{8},sparsity=0\.25$/);
    const kv = { method: 'duo-attention', options: { sparsity: 0.25 }, plan: named.plan };
    expect(kvOf(run)).toEqual({ kv, after: 'question' });
    const other = kvRun('duo-attention', { sparsity: 0.25 }, 'question', { ...named, plan: plan(0.6) });
    expect(methodLabel(other)).not.toBe(methodLabel(run));
    expect(() => kvRun('duo-attention', {})).toThrow(/needs a plan/);
  });
});
