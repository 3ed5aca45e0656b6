/** What a weight of a GGUF model is for, as far as recipes tell weights apart. */
export type TensorRole =
  'embedding' | 'output' | 'query' | 'key' | 'value' | 'attention-output' | 'gate' | 'up' | 'down' | 'other';

/** Parts of names and the roles they mean, the first that is contained decides. A fused projection counts as its most sensitive part. */
const parts: readonly (readonly [part: string, role: TensorRole])[] = [
  ['attn_qkv.weight', 'value'],
  ['attn_kv_b.weight', 'value'],
  ['attn_v.weight', 'value'],
  ['attn_k.weight', 'key'],
  ['attn_q.weight', 'query'],
  ['attn_output.weight', 'attention-output'],
  ['ffn_up', 'up'],
  ['ffn_gate', 'gate'],
  ['ffn_down', 'down'],
];

/** The role of the tensor with this GGUF name: `blk.3.attn_v.weight` → `value`. */
export function tensorRole(name: string): TensorRole {
  if (name === 'output.weight') return 'output';
  if (name === 'token_embd.weight' || name === 'per_layer_token_embd.weight') return 'embedding';
  return parts.find(([part]) => name.includes(part))?.[1] ?? 'other';
}

/** Parts of the names of matrices that stay as they are: small, or too sensitive. */
const exempt = [
  ...['_norm.weight', 'ffn_gate_inp.weight', 'ffn_gate_tid2eid.weight', 'altup', 'laurel', 'per_layer_model_proj'],
  ...['position_embd', 'token_types', 'attn_rel_b.weight', '.rel_pos', '.patch_embd', '.patch_merger'],
  ...['ssm_conv1d', 'shortconv.conv.weight', 'indexer.k_proj.weight', 'indexer.q_proj.weight'],
  ...['time_mix_first', 'time_mix_w', 'time_mix_v', 'time_mix_a', 'time_mix_g', 'time_mix_decay_w', 'time_mix_lerp_fused'],
];

/** Whether recipes quantise the tensor: matrices named `….weight` but norms, routers, position tables and the like. */
export function isQuantizable(name: string, shape: readonly number[]): boolean {
  const matrix = shape.slice(0, -1).some((size) => size > 1);
  return matrix && name.endsWith('weight') && !exempt.some((part) => name.includes(part));
}

/** The layer in the name of a tensor; undefined outside of the layers. */
export function layerOf(name: string): number | undefined {
  const found = /^blk\.(\d+)\./.exec(name);
  return found ? Number(found[1]) : undefined;
}
