// Dense attention: causal, sliding window, softcap, grouped heads, paged keys. Contract: packages/sparse-attention/src/ops/attention.ts.
// Reads K and V of the visible keys once per query row; 2 * keys * (dim + value_dim) operations a row. Stands before attend.wgsl.

struct Parameters {
  offsets: array<vec4u, OFFSET_WORDS>,
  rows: u32,
  first: u32,
  queries: u32,
  lse_first: u32,
  heads: u32,
  length_q: u32,
  dim: u32,
  value_dim: u32,
  kv_heads: u32,
  page_size: u32,
  pages_per_batch: u32,
  heads_first: u32,
  first_key_row: u32,
  key_rows: u32,
  capacity: u32,
  resume: u32,
  scale: f32,
  softcap: f32,
  pv_skip: f32,
  score_n: u32,
  score_m: u32,
  score_sinks: u32,
  score_recent: u32,
  causal: u32,
  window: u32,
  length_k: u32,
}

/* bindings */

// Place of a query in the cache: the last one sees the last key.
fn position_of(row: Row) -> i32 {
  return i32(LENGTH_OF_BATCH) - i32(p.length_q) + i32(row.query);
}

// The keys [x, y) that a query sees.
fn span(row: Row) -> vec2u {
  let keys = LENGTH_OF_BATCH;
  let position = position_of(row);
  let end = select(keys, u32(clamp(position + 1, 0, i32(keys))), p.causal == 1u);
  let start = select(0u, u32(max(position + 1 - i32(p.window), 0)), p.window > 0u);
  return vec2u(start, end);
}

@compute @workgroup_size(64)
fn rows(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.rows) {
    return;
  }
  let row = row_of(index);
  let keys = span(row);
  begin_row(row);
  begin_tiles(position_of(row));
  for (var key = keys.x; key < keys.y; key++) {
    see(row, key / 64u, key);
  }
  finish_row(row);
}

@compute @workgroup_size(64)
fn split(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.y * groups.x + group.x;
  if (index >= p.rows) {
    return;
  }
  let row = row_of(index);
  let keys = span(row);
  begin_split(row, lane);
  begin_tiles(position_of(row));
  for (var key = keys.x / 64u * 64u; key < keys.y; key += 64u) {
    let own = key + lane;
    see_keys(row, lane, own, own >= keys.x && own < keys.y);
  }
  end_split(row, lane);
}
