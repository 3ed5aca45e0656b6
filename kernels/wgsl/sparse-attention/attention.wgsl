// Dense attention: causal, sliding window, softcap, grouped heads, paged keys. Contract: packages/sparse-attention/src/ops/attention.ts.
// One invocation a query row: no barrier. Reads K and V of the visible keys once per row.

struct Parameters {
  offsets: array<vec4u, OFFSET_WORDS>,
  batch: u32,
  heads: u32,
  length_q: u32,
  dim: u32,
  value_dim: u32,
  kv_heads: u32,
  page_size: u32,
  pages_per_batch: u32,
  heads_first: u32,
  scale: f32,
  softcap: f32,
  causal: u32,
  window: i32,
  length_k: u32,
}

/* bindings */

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.batch * p.heads * p.length_q) {
    return;
  }
  let row = row_of(index);
  let batch = row.batch;
  let keys = LENGTH_OF_BATCH;
  let position = i32(keys) - i32(p.length_q) + i32(row.query);
  let end = select(keys, u32(clamp(position + 1, 0, i32(keys))), p.causal == 1u);
  let start = select(0u, u32(max(position + 1 - p.window, 0)), p.window > 0);
  begin_row();
  for (var key = start; key < end; key++) {
    see_key(row, key);
  }
  end_row(row, index);
}
