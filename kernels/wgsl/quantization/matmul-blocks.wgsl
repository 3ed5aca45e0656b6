// y = x W^T + bias + residual, W in GGUF blocks as in the file, for a few tokens. Contract: packages/quantization/src/ops/matmul.ts. Behind
// finish-*.wgsl and activations.wgsl.
//
// A team of LANES invocations has a row of W and TOKENS tokens and takes every LANES-th group of it, so that neighbours read neighbouring blocks;
// every weight is decoded once, in registers, for all tokens.
// Reads the rows of W once per TOKENS tokens; 2 * tokens * rows * inputs operations.

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
    for (var g = lane % LANES; g < p.groups; g += LANES) {
      let codes = load_codes(WEIGHTS_OFFSET + own_row * p.row_bytes, g);
      let low = half_of_codes(codes.low);
      let high = half_of_codes(codes.high);
      for (var t = 0u; t < TOKENS; t++) {
        sums[t] += product(codes, low, high, scratch[min(first_token + t, p.tokens - 1u) * p.groups + g]);
      }
    }
  }
  finish(lane, first_row, first_token, &sums);
}
