// Tree search for the best key blocks. Contract: packages/sparse-attention/src/select/chunk-descent.ts. Dispatches instead of barriers: `begin`
// makes the nodes of every row, then per level `score` splits and scores them, one invocation a part, `rank` says which parts stay, and `compact`
// makes them the nodes; `emit` writes the bits, one invocation a word. Stands before selection.wgsl.
//
// Scratch of a row: keep nodes (start, end), 2 * keep parts (start, end, score, stays).

fn node(row: u32, index: u32) -> u32 {
  return scratch_offset() + row * 10u * p.keep + 2u * index;
}
fn part(row: u32, index: u32) -> u32 {
  return node(row, p.keep) + 4u * index;
}

struct Row {
  batch: u32,
  head: u32,
  first: u32,
  end: u32,
  // Keys up to the row's last position.
  keys: u32,
}

fn row_of(index: u32) -> Row {
  let at = p.first_row + index;
  var row: Row;
  row.head = at / p.row_blocks % p.heads;
  row.batch = at / (p.row_blocks * p.heads);
  row.first = at % p.row_blocks * p.block_q;
  row.end = min(row.first + p.block_q, queries_of(row.batch));
  row.keys = select(0u, visible(row.batch, max(row.end, 1u) - 1u), row.first < row.end);
  return row;
}

@compute @workgroup_size(64)
fn begin(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  let row = index / p.keep;
  if (row >= p.rows) {
    return;
  }
  let blocks = (row_of(row).keys + p.block_k - 1u) / p.block_k;
  let count = min(p.keep, blocks);
  let at = index % p.keep;
  // i * n / keep without its product, which 32 bits may not hold.
  let whole = select(0u, blocks / max(count, 1u), at < count);
  let rest = select(0u, blocks % max(count, 1u), at < count);
  scratch[node(row, at)] = at * whole + at * rest / max(count, 1u);
  scratch[node(row, at) + 1u] = select(0u, (at + 1u) * whole + (at + 1u) * rest / max(count, 1u), at < count);
}

fn block_score(row: Row, block: u32) -> f32 {
  let kv_head = kv_head_of(row.head);
  var best = HIDDEN;
  for (var position = block * p.block_k; position < min((block + 1u) * p.block_k, row.keys); position++) {
    let k_at = key_row(row.batch, kv_head, position) * p.dim;
    for (var query = row.first; query < row.end; query += p.stride_q) {
      let q_at = query_at(row.batch, row.head, query);
      var sum = 0.0;
      for (var channel = 0u; channel < p.dim; channel++) {
        sum += q[q_at + channel] * load_k(k_at + channel);
      }
      if (sum > best) {
        best = sum;
      }
    }
  }
  return best;
}

@compute @workgroup_size(64)
fn score(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  let row = index / (2u * p.keep);
  if (row >= p.rows) {
    return;
  }
  let at = index % (2u * p.keep);
  let start = scratch[node(row, at / 2u)];
  let end = scratch[node(row, at / 2u) + 1u];
  let middle = start + (end - start + 1u) / 2u;
  let own = part(row, at);
  let begins = select(start, middle, at % 2u == 1u);
  let ends = select(middle, end, at % 2u == 1u);
  scratch[own] = begins;
  scratch[own + 1u] = ends;
  if (begins < ends) {
    scratch[own + 2u] = bitcast<u32>(block_score(row_of(row), begins));
  }
}

@compute @workgroup_size(64)
fn rank(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  let row = index / (2u * p.keep);
  if (row >= p.rows) {
    return;
  }
  let at = index % (2u * p.keep);
  let own = part(row, at);
  let mine = bitcast<f32>(scratch[own + 2u]);
  var better = 0u;
  for (var other = 0u; other < 2u * p.keep; other++) {
    let entry = part(row, other);
    let theirs = bitcast<f32>(scratch[entry + 2u]);
    let ahead = theirs > mine || (theirs == mine && other < at);
    better += select(0u, 1u, ahead && scratch[entry] < scratch[entry + 1u]);
  }
  scratch[own + 3u] = select(0u, 1u, scratch[own] < scratch[own + 1u] && better < p.keep);
}

@compute @workgroup_size(64)
fn compact(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  let row = index / (2u * p.keep);
  if (row >= p.rows) {
    return;
  }
  let at = index % (2u * p.keep);
  var before = 0u;
  var total = 0u;
  for (var other = 0u; other < 2u * p.keep; other++) {
    let stays = scratch[part(row, other) + 3u];
    total += stays;
    before += select(0u, stays, other < at);
  }
  let own = part(row, at);
  if (scratch[own + 3u] == 1u) {
    scratch[node(row, before)] = scratch[own];
    scratch[node(row, before) + 1u] = scratch[own + 1u];
  }
  if (at >= total && at < p.keep) {
    scratch[node(row, at)] = 0u;
    scratch[node(row, at) + 1u] = 0u;
  }
}

@compute @workgroup_size(64)
fn emit(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.rows * p.row_words) {
    return;
  }
  let row = index / p.row_words;
  var word = 0u;
  for (var at = 0u; at < p.keep; at++) {
    let start = scratch[node(row, at)];
    let here = start < scratch[node(row, at) + 1u] && start / 32u == index % p.row_words;
    word |= select(0u, 1u << (start % 32u), here);
  }
  bits[bits_offset() + index] = word;
}
