// Attention over the ranges and columns of a packed plan. Contract: packages/sparse-attention/src/ops/planned-attention.ts.
// One invocation a query row: no barrier. Reads K and V of the row's keys once per row.

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
}

/* bindings */

fn word(index: u32) -> i32 {
  return plan[plan_offset() + index];
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.batch * p.heads * p.length_q) {
    return;
  }
  let row = row_of(index);
  let mask_head = u32(word(u32(word(8u)) + row.head));
  let plan_row = (row.batch * u32(word(2u)) + mask_head) * u32(word(3u)) + row.query / u32(word(4u));
  let position = word(u32(word(9u)) + row.batch) + i32(row.query);
  let causal = word(5u) == 1;
  let window = word(6u);
  begin_row();
  let first_range = u32(word(u32(word(12u)) + plan_row));
  let ranges = u32(word(u32(word(13u)) + plan_row));
  for (var range = first_range; range < first_range + ranges; range++) {
    let at = u32(word(14u)) + 3u * range;
    let tested = word(at + 2u) == 1;
    for (var key = word(at); key < word(at + 1u); key++) {
      let visible = (!causal || key <= position) && (window == 0 || position - key < window);
      if (!tested || visible) {
        see_key(row, u32(key));
      }
    }
  }
  let first_column = u32(word(15u));
  let from = u32(word(first_column + plan_row));
  let columns = u32(word(u32(word(16u)) + plan_row));
  for (var column = from; column < from + columns; column++) {
    let key = word(u32(word(17u)) + column);
    if ((!causal || key <= position) && (window == 0 || position - key < window)) {
      see_key(row, u32(key));
    }
  }
  end_row(row, index);
}
