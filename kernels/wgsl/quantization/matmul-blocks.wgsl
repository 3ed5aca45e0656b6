// y = x W^T + bias + residual, W in GGUF blocks as in the file. Contract: packages/quantization/src/ops/matmul.ts. Behind finish-*.wgsl, words.wgsl
// and one of groups/*.wgsl.
//
// `prepare` writes the activations of every 32 inputs to scratch: nine vectors, of which eight are codes (x itself where activations are not
// quantised) and the last one is their scale and the sums of their two halves. `multiply` works on some rows of W and TOKENS tokens a
// workgroup: LANES invocations share a row and take every LANES-th group of it, so that neighbours read neighbouring blocks; every weight is
// decoded once for all tokens; finish-*.wgsl adds up. Codes and levels are integers below 2^24 together, so that the dots in f32 are exact.
// Reads the rows of W once per TOKENS tokens; 2 * tokens * rows * inputs operations.

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

/* bindings */

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
  for (var part = 0u; part < 8u; part++) {
    let four = vec4f(x[at + 4u * part], x[at + 4u * part + 1u], x[at + 4u * part + 2u], x[at + 4u * part + 3u]);
    let codes = select(four, round(four * inverse), p.quantise == 1u);
    sums[part / 4u] += codes.x + codes.y + codes.z + codes.w;
    scratch[index * 9u + part] = codes;
  }
  scratch[index * 9u + 8u] = vec4f(select(1.0, largest / 127.0, p.quantise == 1u), sums, 0.0);
}

@compute @workgroup_size(64)
fn multiply(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.y * groups.x + group.x;
  let rows_here = 64u / LANES;
  let row_blocks = (p.rows + rows_here - 1u) / rows_here;
  let first_row = index % row_blocks * rows_here;
  let first_token = index / row_blocks * TOKENS;
  if (first_token >= p.tokens) {
    return;
  }
  let own_row = first_row + lane / LANES;
  var sums: array<f32, TOKENS>;
  if (own_row < p.rows) {
    let row_at = WEIGHTS_OFFSET + own_row * p.row_bytes;
    for (var g = lane % LANES; g < p.groups; g += LANES) {
      let own = load_group(row_at, g);
      for (var t = 0u; t < TOKENS; t++) {
        let at = (min(first_token + t, p.tokens - 1u) * p.groups + g) * 9u;
        let low = dot(own.l0, scratch[at]) + dot(own.l1, scratch[at + 1u]) + dot(own.l2, scratch[at + 2u]) + dot(own.l3, scratch[at + 3u]);
        let high = dot(own.h0, scratch[at + 4u]) + dot(own.h1, scratch[at + 5u]) + dot(own.h2, scratch[at + 6u]) + dot(own.h3, scratch[at + 7u]);
        let about = scratch[at + 8u];
        sums[t] += about.x * (own.scale.x * low + own.scale.y * high + own.offset.x * about.y + own.offset.y * about.z);
      }
    }
  }
  finish(lane, first_row, first_token, &sums);
}
