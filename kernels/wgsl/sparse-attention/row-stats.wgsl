// Largest score and sum of the softmax of every query over a plan. Contract: packages/sparse-attention/src/select/row-stats.ts. One invocation a
// query; 2 * dim operations a visible key. Where a binding does not hold the keys, a dispatch sees a window of their rows and goes on from the
// result of the one before it. Stands before plan-rows.wgsl and selection.wgsl.

var<private> top: f32;
var<private> total: f32;

fn see_key(q_at: u32, batch: u32, kv_head: u32, position: u32) {
  if (position >= p.capacity) {
    return;
  }
  let at = key_row(batch, kv_head, position) - p.first_key_row;
  if (at >= p.key_rows) {
    return;
  }
  var dot = 0.0;
  for (var channel = 0u; channel < p.dim; channel++) {
    dot += q[q_at + channel] * load_k(at * p.dim + channel);
  }
  var own = dot * p.scale;
  if (p.softcap > 0.0) {
    own = p.softcap * tanh(clamp(own / p.softcap, -10.0, 10.0));
  }
  let before = top;
  top = max(top, own);
  total = total * exp(before - top) + exp(own - top);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.rows) {
    return;
  }
  let at = p.first_row + index;
  let query = at % p.length_q;
  let head = at / p.length_q % p.heads;
  let batch = at / (p.length_q * p.heads);
  let row = planned(batch, head, query);
  let kv_head = planned_kv_head(head, p.heads, p.kv_heads);
  let q_at = query_at(batch, head, query);
  top = HIDDEN;
  total = 0.0;
  if (p.first_key_row > 0u) {
    top = largest[largest_offset() + index];
    total = sum[sum_offset() + index];
  }
  for (var range = row.first_range; range < row.end_range; range++) {
    let start = section(14u, 3u * range);
    let flag = section(14u, 3u * range + 2u);
    for (var key = start; key < section(14u, 3u * range + 1u); key++) {
      if (sees_of_range(row, start, flag, key)) {
        see_key(q_at, batch, kv_head, u32(key));
      }
    }
  }
  for (var column = row.first_column; column < row.end_column; column++) {
    let key = section(17u, column);
    if (sees_column(row, column, key)) {
      see_key(q_at, batch, kv_head, u32(key));
    }
  }
  largest[largest_offset() + index] = top;
  sum[sum_offset() + index] = total;
}
