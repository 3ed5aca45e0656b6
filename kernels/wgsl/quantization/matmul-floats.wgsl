// y = x W^T + bias + residual, W in rows of f32, f16 or bf16. Contract: packages/quantization/src/ops/matmul.ts. Behind finish-*.wgsl, words.wgsl
// and floats.wgsl. A team of LANES invocations has a row of W and TOKENS tokens and takes every LANES-th element of it.
// Reads the rows of W once per TOKENS tokens; 2 * tokens * rows * inputs operations.

struct Parameters {
  offsets: array<vec4u, OFFSET_WORDS>,
  tokens: u32,
  out_features: u32,
  in_features: u32,
  row_bytes: u32,
  kind: u32,
  first_row: u32,
  rows: u32,
}

/* bindings */

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
  var sums: array<f32, SUMS>;
  if (own_row < p.rows) {
    let row_at = WEIGHTS_OFFSET + own_row * p.row_bytes;
    for (var k = lane % LANES; k < p.in_features; k += LANES) {
      let weight = float_at(p.kind, row_at, k);
      for (var t = 0u; t < TOKENS; t++) {
        sums[t] += weight * x[X_OFFSET + min(first_token + t, p.tokens - 1u) * p.in_features + k];
      }
    }
  }
  finish(lane, first_row, first_token, &sums);
}
