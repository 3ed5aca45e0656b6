// The rows that pages of codes stand for, one invocation a number. Contract: packages/kv-cache/src/ops/decode.ts. Stands before codes.wgsl.
// Where a binding does not hold the coded pages, a dispatch sees a window of them and leaves the numbers of others alone.

struct Parameters {
  offsets: array<vec4u, OFFSET_WORDS>,
  count: u32,
  // First number of the rows that are bound, pages and heads of all, and the window of coded ones.
  first: u32,
  pages: u32,
  heads: u32,
  window_first: u32,
  window_count: u32,
}

/* bindings */

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.count) {
    return;
  }
  let at = p.first + index;
  let channel = at % DIM;
  let entry = at / DIM % PAGE_SIZE;
  let item = at / (DIM * PAGE_SIZE);
  let page = u32(ids[ids_offset() + item / p.heads]);
  let block = page * p.heads + item % p.heads - p.window_first;
  if (page >= p.pages || block >= p.window_count) {
    return;
  }
  rows[rows_offset() + index] = number_of_coded(block, select(entry, channel, OF_KEYS), select(channel, entry, OF_KEYS));
}
