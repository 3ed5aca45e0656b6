// Mass of blocks from antidiagonals. Contract: packages/sparse-attention/src/select/antidiagonal-scores.ts. `rows` leaves the largest score and
// the sum of each strided row in scratch, one invocation a row; `blocks` then sums the weights of a block, one invocation each, from scores made
// anew: twice the products, but nothing of the size of the strided scores. Stands before selection.wgsl.

fn score(batch: u32, head: u32, row: u32, column: u32) -> f32 {
  let kv_head = kv_head_of(head);
  let queries = queries_of(batch);
  let keys = keys_of(batch);
  var sum = 0.0;
  for (var step = 0u; step < p.stride; step++) {
    let query = row * p.stride + p.stride - 1u - step;
    let position = column * p.stride + step;
    if (query < queries && position < keys) {
      let q_at = query_at(batch, head, query);
      let k_at = key_row(batch, kv_head, position) * p.dim;
      for (var channel = 0u; channel < p.dim; channel++) {
        sum += q[q_at + channel] * load_k(k_at + channel);
      }
    }
  }
  return sum * p.scale / f32(p.stride);
}

// Strided columns that a strided row sees.
fn seen(batch: u32, row: u32) -> u32 {
  let queries = queries_of(batch);
  if (row * p.stride >= queries) {
    return 0u;
  }
  let last = min((row + 1u) * p.stride, queries) - 1u;
  return (visible(batch, last) + p.stride - 1u) / p.stride;
}

@compute @workgroup_size(64)
fn rows(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.batch * p.heads * p.strided) {
    return;
  }
  let row = index % p.strided;
  let head = index / p.strided % p.heads;
  let batch = index / (p.strided * p.heads);
  var largest = HIDDEN;
  var sum = 0.0;
  for (var column = 0u; column < seen(batch, row); column++) {
    let own = score(batch, head, row, column);
    let top = max(largest, own);
    sum = sum * exp(largest - top) + exp(own - top);
    largest = top;
  }
  scratch[scratch_offset() + 2u * index] = largest;
  scratch[scratch_offset() + 2u * index + 1u] = sum;
}

@compute @workgroup_size(64)
fn blocks(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.rows * p.columns) {
    return;
  }
  let at = p.first_row + index / p.columns;
  let row = at % p.row_blocks;
  let head = at / p.row_blocks % p.heads;
  let batch = at / (p.row_blocks * p.heads);
  let first_column = index % p.columns * p.per_block;
  var total = 0.0;
  for (var own = row * p.per_block; own < min((row + 1u) * p.per_block, p.strided); own++) {
    let stats = scratch_offset() + 2u * ((batch * p.heads + head) * p.strided + own);
    let end = min(first_column + p.per_block, seen(batch, own));
    var sum = 0.0;
    for (var column = first_column; column < end; column++) {
      sum += exp(score(batch, head, own, column) - scratch[stats]);
    }
    if (first_column < end) {
      total += sum / scratch[stats + 1u];
    }
  }
  y[y_offset() + index] = total;
}
