// Attention over whole coded pages. Contract: packages/kv-cache/src/ops/coded-attention.ts. Reads the codes of K and V once per query row and
// dequantises them in registers; 2 * entries * (dim + value_dim) operations a row. Stands before attend.wgsl, untiled.wgsl, unbiased.wgsl and codes.wgsl of both sides.

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
}

/* bindings */

fn kv_head_of(head: u32) -> u32 {
  return head / (p.heads / p.kv_heads);
}

fn page_of(batch: u32, position: u32) -> u32 {
  return u32(table[table_offset() + batch * p.pages_per_batch + position / PAGE_SIZE]);
}

fn entry_of(position: u32) -> u32 {
  return position % PAGE_SIZE;
}

fn load_k(at: u32) -> f32 {
  let row = at / DIM;
  return number_of_kPages(row / PAGE_SIZE, at % DIM, row % PAGE_SIZE);
}

fn load_v(at: u32) -> f32 {
  let row = at / VALUE_DIM;
  return number_of_vPages(row / PAGE_SIZE, row % PAGE_SIZE, at % VALUE_DIM);
}

fn entries_of(row: Row) -> u32 {
  return u32(clamp(lengths[lengths_offset() + row.batch], 0, i32(p.capacity)));
}

@compute @workgroup_size(64)
fn rows(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.rows) {
    return;
  }
  let row = row_of(index);
  let entries = entries_of(row);
  begin_row(row);
  for (var entry = 0u; entry < entries; entry++) {
    see(row, entry / 64u, entry);
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
  let entries = entries_of(row);
  begin_split(row, lane);
  for (var entry = 0u; entry < entries; entry += 64u) {
    see_keys(row, lane, entry + lane, entry + lane < entries);
  }
  end_split(row, lane);
}
