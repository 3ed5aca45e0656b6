// Attention over two disjoint sets of keys from attention over each. Contract: packages/sparse-attention/src/ops/merge.ts.
// One invocation per number of the result; reads both parts once.

struct Parameters {
  offsets: array<vec4u, OFFSET_WORDS>,
  // Numbers of the result here, the row of the first one and the row of the first lse that is bound.
  count: u32,
  first: u32,
  lse_first: u32,
  dim: u32,
  heads: u32,
  length_q: u32,
  heads_first: u32,
  per_head: u32,
}

/* bindings */

fn negative_infinity() -> f32 {
  var bits = 0xff800000u;
  return bitcast<f32>(bits);
}

// -inf has weight 0, whatever it is relative to: subtracting infinities may give anything.
fn weight(own: f32, largest: f32) -> f32 {
  return select(exp(own - largest), 0.0, own < -3e38);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.count) {
    return;
  }
  let row = p.first + index / p.dim;
  let channel = index % p.dim;
  var head = row / p.length_q % p.heads;
  var lse_row = row;
  if (p.heads_first == 0u) {
    head = row % p.heads;
    let query = row / p.heads % p.length_q;
    lse_row = (row / (p.heads * p.length_q) * p.heads + head) * p.length_q + query;
  }
  let own = lse[lse_offset() + lse_row - p.lse_first];
  let other = otherLse[otherLse_offset() + select(lse_row - p.lse_first, head, p.per_head == 1u)];
  let largest = max(own, other);
  let weights = vec2f(weight(own, largest), weight(other, largest));
  let sum = weights.x + weights.y;
  var value = 0.0;
  if (sum > 0.0) {
    value = (weights.x * o[o_offset() + index] + weights.y * other_value(index)) / sum;
  }
  merged[merged_offset() + index] = value;
  if (channel == 0u) {
    mergedLse[mergedLse_offset() + lse_row - p.lse_first] = select(negative_infinity(), largest + log(sum), sum > 0.0);
  }
}
