// Low-bit estimates of scores, block by block. Contract: packages/sparse-attention/src/select/quant-dot.ts. One batch element at a time, whose
// scratch holds means, steps, corrections and codes, four to a word. `means`: an invocation a head and channel. `codes`: one a query, a key, and
// a key of each query head. `blocks`: one a block, blockQ * blockK * dim / 4 products of four codes. Stands before selection.wgsl.

// Where parts of scratch begin: [Hq, D], [Hk, D], [Hq, Lq], [Hq, Lq], [Hk, K], [Hq, K], [Hq, Lq, quads], [Hk, K, quads].
fn mean_q(head: u32) -> u32 {
  return scratch_offset() + head * p.dim;
}
fn mean_k(kv_head: u32) -> u32 {
  return mean_q(p.heads) + kv_head * p.dim;
}
fn step_q(row: u32) -> u32 {
  return mean_k(p.kv_heads) + row;
}
fn offset_q(row: u32) -> u32 {
  return step_q(p.heads * p.length_q) + row;
}
fn step_k(row: u32) -> u32 {
  return offset_q(p.heads * p.length_q) + row;
}
fn correction(row: u32) -> u32 {
  return step_k(p.kv_heads * p.capacity) + row;
}
fn codes_q(row: u32) -> u32 {
  return correction(p.heads * p.capacity) + row * p.quads;
}
fn codes_k(row: u32) -> u32 {
  return codes_q(p.heads * p.length_q) + row * p.quads;
}

fn number(at: u32) -> f32 {
  return bitcast<f32>(scratch[at]);
}

@compute @workgroup_size(64)
fn means(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  let channel = index % p.dim;
  let head = index / p.dim;
  if (head >= p.heads + p.kv_heads) {
    return;
  }
  var sum = 0.0;
  if (head < p.heads) {
    let count = queries_of(p.element);
    for (var query = 0u; query < count; query++) {
      sum += q[query_at(p.element, head, query) + channel];
    }
    scratch[mean_q(head) + channel] = bitcast<u32>(sum / f32(max(count, 1u)));
    return;
  }
  let count = keys_of(p.element);
  for (var position = 0u; position < count; position++) {
    sum += load_k(key_row(p.element, head - p.heads, position) * p.dim + channel);
  }
  scratch[mean_k(head - p.heads) + channel] = bitcast<u32>(sum / f32(max(count, 1u)));
}

fn code(value: f32, step: f32) -> u32 {
  return u32(i32(select(0.0, round(value / step), step > 0.0))) & 0xffu;
}

fn code_query(row: u32) {
  let head = row / p.length_q;
  let query = row % p.length_q;
  if (query >= queries_of(p.element)) {
    return;
  }
  let at = query_at(p.element, head, query);
  let average = mean_q(head);
  let keys = mean_k(kv_head_of(head));
  var largest = 0.0;
  var offset = 0.0;
  for (var channel = 0u; channel < p.dim; channel++) {
    largest = max(largest, abs(q[at + channel] - number(average + channel)));
    offset += q[at + channel] * number(keys + channel);
  }
  let step = largest / p.levels;
  scratch[step_q(row)] = bitcast<u32>(step);
  scratch[offset_q(row)] = bitcast<u32>(offset);
  for (var quad = 0u; quad < p.quads; quad++) {
    var word = 0u;
    for (var channel = 4u * quad; channel < min(4u * quad + 4u, p.dim); channel++) {
      word |= code(q[at + channel] - number(average + channel), step) << (8u * (channel % 4u));
    }
    scratch[codes_q(row) + quad] = word;
  }
}

fn code_key(row: u32) {
  let kv_head = row / p.capacity;
  let position = row % p.capacity;
  if (position >= keys_of(p.element)) {
    return;
  }
  let at = key_row(p.element, kv_head, position) * p.dim;
  let average = mean_k(kv_head);
  var largest = 0.0;
  for (var channel = 0u; channel < p.dim; channel++) {
    largest = max(largest, abs(load_k(at + channel) - number(average + channel)));
  }
  let step = largest / p.levels;
  scratch[step_k(row)] = bitcast<u32>(step);
  for (var quad = 0u; quad < p.quads; quad++) {
    var word = 0u;
    for (var channel = 4u * quad; channel < min(4u * quad + 4u, p.dim); channel++) {
      word |= code(load_k(at + channel) - number(average + channel), step) << (8u * (channel % 4u));
    }
    scratch[codes_k(row) + quad] = word;
  }
}

fn correct(row: u32) {
  let head = row / p.capacity;
  let position = row % p.capacity;
  if (position >= keys_of(p.element)) {
    return;
  }
  let kv_head = kv_head_of(head);
  let at = key_row(p.element, kv_head, position) * p.dim;
  var sum = 0.0;
  for (var channel = 0u; channel < p.dim; channel++) {
    sum += number(mean_q(head) + channel) * (load_k(at + channel) - number(mean_k(kv_head) + channel));
  }
  scratch[correction(row)] = bitcast<u32>(sum);
}

@compute @workgroup_size(64)
fn codes(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  let queries = p.heads * p.length_q;
  let keys = p.kv_heads * p.capacity;
  if (index < queries) {
    code_query(index);
  } else if (index < queries + keys) {
    code_key(index - queries);
  } else if (index < queries + keys + p.heads * p.capacity) {
    correct(index - queries - keys);
  }
}

// Four signed codes.
fn unpacked(word: u32) -> vec4f {
  let bits = bitcast<i32>(word);
  return vec4f(f32((bits << 24u) >> 24u), f32((bits << 16u) >> 24u), f32((bits << 8u) >> 24u), f32(bits >> 24u));
}

@compute @workgroup_size(64)
fn blocks(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.rows * p.columns) {
    return;
  }
  let at = p.first_row + index / p.columns;
  let row = at % p.row_blocks;
  let head = at / p.row_blocks;
  let kv_head = kv_head_of(head);
  let first = index % p.columns * p.block_k;
  var best = HIDDEN;
  for (var query = row * p.block_q; query < min((row + 1u) * p.block_q, queries_of(p.element)); query++) {
    let own = head * p.length_q + query;
    let step = number(step_q(own));
    let offset = number(offset_q(own));
    let bound = limit[limit_offset() + p.element * p.heads * p.length_q + own];
    for (var position = first; position < min(first + p.block_k, visible(p.element, query)); position++) {
      let key = kv_head * p.capacity + position;
      // Whole numbers below 2^24: exact in f32.
      var product = 0.0;
      for (var quad = 0u; quad < p.quads; quad++) {
        product += dot(unpacked(scratch[codes_q(own) + quad]), unpacked(scratch[codes_k(key) + quad]));
      }
      let estimate = step * number(step_k(key)) * product + number(correction(head * p.capacity + position)) + offset;
      let above = p.scale * estimate - bound;
      if (is_finite(above) && above > best) {
        best = above;
      }
    }
  }
  y[y_offset() + index] = best;
}
