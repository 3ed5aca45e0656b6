import { expect, it } from 'vitest';
import { tensorPart } from '../src/inspect/tensor-part.js';

it.each([
  ['token_embd.weight', 'embedding'],
  ['output.weight', 'output'],
  ['output_norm.weight', 'norm'],
  ['blk.0.attn_q_norm.weight', 'norm'],
  ['blk.0.post_ffw_norm.weight', 'norm'],
  ['blk.11.attn_q.weight', 'query'],
  ['blk.11.attn_q.bias', 'bias'],
  ['blk.0.attn_qkv.weight', 'query-key-value'],
  ['blk.0.attn_output.weight', 'attention-output'],
  ['blk.0.ffn_gate_inp.weight', 'router'],
  ['blk.0.ffn_gate_exps.weight', 'gate'],
  ['rope_freqs.weight', 'other'],
])('%s of a GGUF file: %s', (name, part) => {
  expect(tensorPart(name)).toBe(part);
});

it.each([
  ['model.embed_tokens.weight', 'embedding'],
  ['lm_head.weight', 'output'],
  ['model.norm.weight', 'norm'],
  ['model.layers.3.post_attention_layernorm.weight', 'norm'],
  ['model.layers.3.self_attn.q_proj.weight', 'query'],
  ['model.layers.3.self_attn.o_proj.weight', 'attention-output'],
  ['model.layers.3.self_attn.v_proj.bias', 'bias'],
  ['language_model.model.layers.3.mlp.down_proj.weight', 'down'],
  ['model.layers.3.self_attn.k_proj.qweight', 'key'],
  ['model.layers.3.self_attn.k_proj.g_idx', 'key'],
  ['model.layers.3.mlp.up_proj.weight_packed', 'up'],
  ['model.layers.3.mlp.up_proj.weight_scale_inv', 'up'],
  ['model.layers.3.mlp.up_proj.weight.quant_state.bitsandbytes__nf4', 'up'],
  ['w', 'other'],
])('%s of a checkpoint of transformers: %s', (name, part) => {
  expect(tensorPart(name)).toBe(part);
});
