import { OptionError } from '@filigree/core-tensor';
import { planQuantization, recipes, type PlanQuantizationOptions, type SourceTensor } from '@filigree/quantization';
import { describe, expect, it } from 'vitest';

/** The weights of a model of the shapes of SmolLM2-135M: rows of 576 are no whole blocks of 256, rows of 1,536 are. */
function smollm(type = 'F16', layers = 30): SourceTensor[] {
  const block = (layer: number): SourceTensor[] => [
    { name: `blk.${layer}.attn_norm.weight`, type: 'F32', shape: [576] },
    { name: `blk.${layer}.attn_q.weight`, type, shape: [576, 576] },
    { name: `blk.${layer}.attn_k.weight`, type, shape: [192, 576] },
    { name: `blk.${layer}.attn_v.weight`, type, shape: [192, 576] },
    { name: `blk.${layer}.attn_output.weight`, type, shape: [576, 576] },
    { name: `blk.${layer}.ffn_gate.weight`, type, shape: [1536, 576] },
    { name: `blk.${layer}.ffn_up.weight`, type, shape: [1536, 576] },
    { name: `blk.${layer}.ffn_down.weight`, type, shape: [576, 1536] },
  ];
  return [
    { name: 'token_embd.weight', type, shape: [49152, 576] },
    ...Array.from({ length: layers }, (_, layer) => block(layer)).flat(),
    { name: 'output_norm.weight', type: 'F32', shape: [576] },
  ];
}

const facts = { layers: 30, queryGroup: 3, experts: 0 };

function counts(options: PlanQuantizationOptions, tensors = smollm()): Record<string, number> {
  const found: Record<string, number> = {};
  for (const { to } of planQuantization(tensors, facts, options)) found[to] = (found[to] ?? 0) + 1;
  return found;
}

describe('planQuantization', () => {
  it('gives SmolLM2 in Q4_K_M the types that llama.cpp gives it', () => {
    expect(counts({ type: 'Q4_K_M' })).toEqual({ F32: 31, Q4_K: 16, Q5_0: 136 + 30, Q6_K: 14, Q8_0: 15 });
  });

  it('gives whole blocks the type itself, and tied embeddings more bits', () => {
    expect(counts({ type: 'Q4_0' })).toEqual({ F32: 31, Q4_0: 210, Q8_0: 1 });
  });

  it('gives every weight the one type when pure', () => {
    expect(counts({ type: 'q4_1', pure: true })).toEqual({ F32: 31, Q4_1: 211 });
  });

  it('leaves token embeddings to the recipe where the output has weights of its own', () => {
    const tensors = [...smollm(), { name: 'output.weight', type: 'F16', shape: [49152, 512] }];
    const plan = planQuantization(tensors, facts, { type: 'Q5_0' });
    const types = Object.fromEntries(plan.map(({ name, to }) => [name, to]));
    expect([types['token_embd.weight'], types['output.weight']]).toEqual(['Q5_0', 'Q6_K']);
  });

  it('names the type that rows are no whole blocks of', () => {
    const [query] = planQuantization([{ name: 'blk.0.attn_q.weight', type: 'F16', shape: [8, 96] }], facts, { type: 'Q3_K_S' });
    expect(query).toMatchObject({ to: 'Q4_0', instead: 'Q3_K' });
    const [odd] = planQuantization([{ name: 'blk.0.attn_q.weight', type: 'F32', shape: [8, 40] }], facts, { type: 'Q8_0' });
    expect(odd).toMatchObject({ to: 'F16', instead: 'Q8_0' });
  });

  it('takes the first rule that matches before the recipe', () => {
    const rules = [
      { pattern: /blk\.(0|29)\./, type: 'F16' },
      { pattern: 'attn_v', type: 'Q8_0' },
    ];
    const plan = planQuantization(smollm(), facts, { type: 'Q4_0', rules });
    const type = (name: string): string | undefined => plan.find((tensor) => tensor.name === name)?.to;
    expect([type('blk.0.attn_v.weight'), type('blk.1.attn_v.weight'), type('blk.1.attn_k.weight')]).toEqual([
      'F16',
      'Q8_0',
      'Q4_0',
    ]);
  });

  it.each([
    ['a rule that matches nothing', { type: 'Q4_0', rules: [{ pattern: 'attn_w', type: 'Q8_0' }] }, /attn_w=Q8_0/],
    ['a rule of no pattern', { type: 'Q4_0', rules: [{ pattern: '', type: 'Q8_0' }] }, /pattern/],
    ['a rule of an unknown type', { type: 'Q4_0', rules: [{ pattern: 'attn_v', type: 'Q9_9' }] }, /Q9_9/],
    ['an unknown recipe', { type: 'IQ1_S' }, /IQ1_S.*Q4_K_M/],
  ])('refuses %s', (_, options, message) => {
    const plan = (): unknown => planQuantization(smollm(), facts, options);
    expect(plan).toThrow(OptionError);
    expect(plan).toThrow(message);
  });

  it('refuses weights that are quantised already, unless allowed', () => {
    expect(() => planQuantization(smollm('Q8_0'), facts, { type: 'Q4_0' })).toThrow(/token_embd|attn_q/);
    expect(counts({ type: 'Q4_0', allowRequantize: true }, smollm('Q8_0'))).toEqual({ F32: 31, Q4_0: 210, Q8_0: 1 });
  });

  it('leaves norms, routers, biases and vectors alone in every recipe', () => {
    const kept: SourceTensor[] = [
      { name: 'blk.0.ffn_gate_inp.weight', type: 'F32', shape: [8, 512] },
      { name: 'blk.0.attn_q.bias', type: 'F32', shape: [512] },
      { name: 'blk.0.attn_q_norm.weight', type: 'F32', shape: [4, 64] },
      { name: 'rope_freqs.weight', type: 'F32', shape: [32] },
    ];
    for (const { id } of recipes)
      expect(planQuantization(kept, facts, { type: id }).every(({ from, to }) => from === to)).toBe(true);
  });

  it('keeps queries, keys and outputs of attention wide in models of eight experts', () => {
    const plan = planQuantization(
      smollm('F16', 1).map((t) => ({ ...t, shape: [512, 512] })),
      { ...facts, experts: 8 },
      { type: 'Q4_K_M' },
    );
    const type = (part: string): string | undefined => plan.find(({ name }) => name.includes(part))?.to;
    expect([type('attn_k'), type('attn_v'), type('attn_output'), type('attn_q')]).toEqual(['Q8_0', 'Q8_0', 'Q5_K', 'Q4_K']);
  });
});
