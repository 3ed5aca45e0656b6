// Attention of every query over a list of keys of its own. Contract: packages/sparse-attention/src/ops/gather-attention.ts.
// Reads K and V of the listed keys once per query row; 2 * keys * (dim + value_dim) operations a row. Stands before attend.wgsl.

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
  // Lists per batch element and query, the first one that is bound, and their length.
  mask_heads: u32,
  first_list: u32,
  slots: u32,
}

/* bindings */

// Where the list of a row starts.
fn list_of(row: Row) -> u32 {
  var head = 0u;
  if (p.mask_heads == p.heads) {
    head = row.head;
  } else if (p.mask_heads > 1u) {
    head = kv_head_of(row.head);
  }
  return indices_offset() + ((row.batch * p.mask_heads + head) * p.length_q + row.query - p.first_list) * p.slots;
}

@compute @workgroup_size(64)
fn rows(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.rows) {
    return;
  }
  let row = row_of(index);
  let list = list_of(row);
  begin_row(row);
  for (var slot = 0u; slot < p.slots; slot++) {
    let key = indices[list + slot];
    if (key >= 0) {
      see(row, slot / 64u, u32(key));
    }
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
  let list = list_of(row);
  begin_split(row, lane);
  for (var slot = 0u; slot < p.slots; slot += 64u) {
    let own = slot + lane;
    var key = -1;
    if (own < p.slots) {
      key = indices[list + own];
    }
    see_keys(row, lane, u32(key), key >= 0);
  }
  end_split(row, lane);
}
