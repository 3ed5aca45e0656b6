// y = x W^T + bias + residual, W in GGUF blocks as in the file, for few tokens. Contract: packages/quantization/src/ops/matmul.ts. Behind
// finish-*.wgsl and activations.wgsl.
//
// Some rows of W and TOKENS tokens a workgroup: LANES invocations share a row and take every LANES-th group of it, so that neighbours read
// neighbouring blocks; every weight is decoded once, in registers, for all tokens; finish-*.wgsl adds up.
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
  var sums: array<f32, TOKENS>;
  if (own_row < p.rows) {
    let row_at = WEIGHTS_OFFSET + own_row * p.row_bytes;
    for (var g = lane % LANES; g < p.groups; g += LANES) {
      let own = load_codes(row_at, g);
      let low = half_of_codes(own.low);
      let high = half_of_codes(own.high);
      for (var t = 0u; t < TOKENS; t++) {
        let at = min(first_token + t, p.tokens - 1u) * p.groups + g;
        let counts = scratch[at].sums;
        let dots = own.scale * vec2f(dot_half(low, scratch[at].low, counts.x), dot_half(high, scratch[at].high, counts.y));
        let offsets = own.offset * vec2f(counts);
        sums[t] += scratch[at].scale * (dots.x + dots.y + offsets.x + offsets.y);
      }
    }
  }
  finish(lane, first_row, first_token, &sums);
}
