// Upper bounds of the scores of pages. Contract: packages/sparse-attention/src/select/bound-scores.ts. One invocation a bound: 3 * dim
// operations, neighbours read neighbouring bounds of one query. Stands before selection.wgsl.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.rows * p.columns) {
    return;
  }
  let row = p.first_row + index / p.columns;
  let column = index % p.columns;
  let query = row % p.length_q;
  let head = row / p.length_q % p.heads;
  let batch = row / (p.length_q * p.heads);
  if (column * p.page >= visible(batch, query)) {
    if (p.first_key_row == 0u) {
      y[y_offset() + index] = HIDDEN;
    }
    return;
  }
  let at = key_row(batch, kv_head_of(head), column) - p.first_key_row;
  if (at >= p.key_rows) {
    return;
  }
  let q_at = query_at(batch, head, query);
  var sum = 0.0;
  for (var channel = 0u; channel < p.dim; channel++) {
    let value = q[q_at + channel];
    sum += value * select(load_keyMax(at * p.dim + channel), load_keyMin(at * p.dim + channel), value < 0.0);
  }
  y[y_offset() + index] = p.scale * sum;
}
