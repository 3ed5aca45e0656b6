// Scores of pooled queries with pooled keys, by softmax or as they are. Contract: packages/sparse-attention/src/select/block-scores.ts.
// One workgroup a row, columns in lanes: every lane makes its scores once, and one barrier later divides what it has written by the row's sum.

struct Parameters {
  offsets: array<vec4u, OFFSET_WORDS>,
  first: u32,
  count: u32,
  heads: u32,
  kv_heads: u32,
  rows: u32,
  columns: u32,
  dim: u32,
  block_q: u32,
  block_k: u32,
  softmax: u32,
  scale: f32,
}

/* bindings */

const NONE = -1e30;

var<workgroup> tops: array<f32, 64>;
var<workgroup> sums: array<f32, 64>;

fn visible(element: u32, row: u32) -> u32 {
  var lengths_of = vec2i(vec2u(p.rows * p.block_q, p.columns * p.block_k));
  if (has_lengths) {
    lengths_of = vec2i(lengths_at(2u * element), lengths_at(2u * element + 1u));
  }
  let start = i32(row * p.block_q);
  let last = lengths_of.y - lengths_of.x + min(start + i32(p.block_q), lengths_of.x) - 1;
  if (start >= lengths_of.x || last < 0) {
    return 0u;
  }
  return min(p.columns, u32(last) / p.block_k + 1u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.y * groups.x + group.x;
  if (index >= p.count) {
    return;
  }
  let at = p.first + index;
  let column_of_heads = at / p.rows;
  let element = column_of_heads / p.heads;
  let head = column_of_heads % p.heads;
  var kv_head = head * p.kv_heads / p.heads;
  if (has_kvMap) {
    kv_head = u32(clamp(kvMap_at(head), 0, i32(p.kv_heads) - 1));
  }
  let keys = (element * p.kv_heads + kv_head) * p.columns;
  let seen = visible(element, at % p.rows);
  let out = y_offset() + index * p.columns;
  var largest = NONE;
  var sum = 0.0;
  for (var column = lane; column < p.columns; column += 64u) {
    var score = NONE;
    if (column < seen && (!has_keep || keep_at(keys + column) != 0.0)) {
      var dot = 0.0;
      for (var channel = 0u; channel < p.dim; channel++) {
        dot += qc_at(index * p.dim + channel) * kc_at((keys + column) * p.dim + channel);
      }
      score = dot * p.scale;
      let top = max(largest, score);
      sum = sum * exp(largest - top) + exp(score - top);
      largest = top;
    }
    y[out + column] = score;
  }
  if (p.softmax == 0u) {
    return;
  }
  tops[lane] = largest;
  sums[lane] = sum;
  workgroupBarrier();
  for (var other = 0u; other < 64u; other++) {
    largest = max(largest, tops[other]);
  }
  sum = 0.0;
  for (var other = 0u; other < 64u; other++) {
    sum += sums[other] * exp(tops[other] - largest);
  }
  for (var column = lane; column < p.columns; column += 64u) {
    let score = y[out + column];
    y[out + column] = select(0.0, exp(score - largest) / sum, score > NONE);
  }
}
