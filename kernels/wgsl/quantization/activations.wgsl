// Activations of the quantised matmuls. `prepare` writes those of every 32 inputs to scratch: quantised to codes, or x itself where activations
// are not quantised; their scale and the sums of their two halves. Behind halves-*.wgsl.

struct Parameters {
  offsets: array<vec4u, OFFSET_WORDS>,
  tokens: u32,
  out_features: u32,
  groups: u32,
  row_bytes: u32,
  quantise: u32,
  first_row: u32,
  rows: u32,
}

struct Activations {
  low: Half,
  high: Half,
  scale: f32,
  sums: vec2<Count>,
}

/* bindings */

// Of a group of weights, `low` and `high` as halves, with the activations of a token.
fn product(codes: Codes, low: Half, high: Half, x: Activations) -> f32 {
  let dots = codes.scale * vec2f(dot_half(low, x.low, x.sums.x), dot_half(high, x.high, x.sums.y));
  let offsets = codes.offset * vec2f(x.sums);
  return x.scale * (dots.x + dots.y + offsets.x + offsets.y);
}

@compute @workgroup_size(64)
fn prepare(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.tokens * p.groups) {
    return;
  }
  let at = X_OFFSET + index * 32u;
  var largest = 0.0;
  for (var e = 0u; e < 32u; e++) {
    largest = max(largest, abs(x[at + e]));
  }
  let inverse = select(0.0, 127.0 / largest, largest > 0.0 && p.quantise == 1u);
  var sums = vec2f(0.0);
  var fours: array<Four, 8>;
  for (var part = 0u; part < 8u; part++) {
    let four = vec4f(x[at + 4u * part], x[at + 4u * part + 1u], x[at + 4u * part + 2u], x[at + 4u * part + 3u]);
    let codes = select(four, round(four * inverse), p.quantise == 1u);
    sums[part / 4u] += codes.x + codes.y + codes.z + codes.w;
    fours[part] = four_activations(codes);
  }
  scratch[index].low = Half(fours[0], fours[1], fours[2], fours[3]);
  scratch[index].high = Half(fours[4], fours[5], fours[6], fours[7]);
  scratch[index].scale = select(1.0, largest / 127.0, p.quantise == 1u);
  scratch[index].sums = vec2<Count>(sums);
}
