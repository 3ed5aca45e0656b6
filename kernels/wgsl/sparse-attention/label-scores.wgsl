// Scores from a few channels of every key. Contract: packages/sparse-attention/src/select/label-scores.ts. One invocation a score: 2 * key_dim
// operations, neighbours read neighbouring labels of one query. Stands before selection.wgsl.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.rows * p.columns) {
    return;
  }
  let row = p.first_row + index / p.columns;
  let position = index % p.columns;
  let query = row % p.length_q;
  let head = row / p.length_q % p.heads;
  let batch = row / (p.length_q * p.heads);
  if (position >= visible(batch, query)) {
    if (p.first_key_row == 0u) {
      y[y_offset() + index] = HIDDEN;
    }
    return;
  }
  let kv_head = kv_head_of(head);
  let at = key_row(batch, kv_head, position) - p.first_key_row;
  if (at >= p.key_rows) {
    return;
  }
  let q_at = query_at(batch, head, query);
  var sum = 0.0;
  for (var channel = 0u; channel < p.key_dim; channel++) {
    let chosen = u32(channels[channels_offset() + kv_head * p.key_dim + channel]);
    sum += q[q_at + min(chosen, p.dim - 1u)] * load_labels(at * p.key_dim + channel);
  }
  y[y_offset() + index] = p.scale * sum;
}
