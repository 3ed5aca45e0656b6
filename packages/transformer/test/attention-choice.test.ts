import { layerTimes, phaseAttention, type AttentionOptions } from '@filigree/transformer';
import { describe, expect, it } from 'vitest';
import { loadTiny } from './support/tiny.js';

const model = await loadTiny({}, { layers: 4 });
const window = { method: 'sliding-window', options: { window: 8 } };

/** Keys of the groups of every layer. */
function layers(
  attention: AttentionOptions,
  windows = model.config.windows,
  phase: 'prefill' | 'decode' = 'prefill',
): number[] | undefined {
  return phaseAttention(attention, phase, { ...model.config, windows }, 'test')?.map((groups) => groups.length);
}

describe('phaseAttention', () => {
  it('leaves layers with a window of their own alone', () => {
    expect(layers({ prefill: window }, [16, 0, 16, 0])).toEqual([0, 1, 0, 1]);
  });

  it('begins at the layer that a method begins at', () => {
    expect(layers({ prefill: { method: 'triangle-mix', options: { startLayer: 2 } } })).toEqual([0, 0, 1, 1]);
  });

  it('is nothing for dense attention, and for the other phase', () => {
    expect(layers({ prefill: { method: 'dense' } })).toBeUndefined();
    expect(layers({ decode: window })).toBeUndefined();
    expect(layers({ decode: window }, model.config.windows, 'decode')).toEqual([1, 1, 1, 1]);
  });

  it('takes the plan in the phases of its methods, and a choice before it', () => {
    const { heads, kvHeads } = model.config;
    const choices = Array.from({ length: heads }, (_, head) => (head === 0 ? { method: 'quest', options: {} } : window));
    const plan = {
      version: 1 as const,
      model: { name: 'tiny', layers: 4, heads, kvHeads },
      calibration: {},
      layers: Array.from({ length: 4 }, () => ({ heads: choices })),
    };
    const groups = (phase: 'prefill' | 'decode'): unknown =>
      phaseAttention({ plan }, phase, model.config, 'test')?.[0].map(({ heads: some, policy }) => [policy.kind, some]);
    const others = Array.from({ length: heads - 1 }, (_, index) => index + 1);
    expect(groups('prefill')).toEqual([
      ['pattern', others],
      ['executor', [0]],
    ]);
    expect(groups('decode')).toEqual([
      ['selector', [0]],
      ['pattern', others],
    ]);
    expect(layers({ plan, prefill: { method: 'dense' } })).toBeUndefined();
  });

  it('knows methods by what they do, and policies and patterns of one’s own by what they are', () => {
    const key = (attention: AttentionOptions): string | undefined =>
      phaseAttention(attention, 'prefill', model.config, 'test')?.[0][0].key;
    expect(key({ prefill: window })).toBe(key({ prefill: { method: 'sliding-window', options: { window: 8 } } }));
    expect(key({ prefill: window })).not.toBe(key({ prefill: { method: 'sliding-window', options: { window: 9 } } }));
    const policy = { kind: 'executor' as const, options: () => ({ pvSkip: 3 }) };
    expect(key({ prefill: policy })).toBe(key({ prefill: policy }));
    expect(key({ prefill: policy })).not.toBe(key({ prefill: { ...policy } }));
  });
});

describe('layerTimes', () => {
  it('counts the ops between a layer’s keys and its output matrix', () => {
    const step = ['quantization/qkv', 'core/rope', 'kv-cache/append', 'sparse-attention/pool-blocks', 'core/softmax'];
    const ops = [...step, 'sparse-attention/planned-attention', 'quantization/matmul', 'core/rms-norm'];
    const twice = [...ops, ...ops].map((op) => ({ op, milliseconds: 1 }));
    expect(layerTimes([...twice, ...twice.slice(0, 6)], 2)).toEqual([
      { selectMs: 4, executeMs: 2 },
      { selectMs: 2, executeMs: 1 },
    ]);
  });
});
