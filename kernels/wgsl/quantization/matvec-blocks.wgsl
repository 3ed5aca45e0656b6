// y = x W^T + bias + residual, W in GGUF blocks as in the file, for one token. Contract: packages/quantization/src/ops/matmul.ts. Behind
// finish-*.wgsl and activations.wgsl.
//
// A team of LANES invocations has ROWS rows of W and takes every LANES-th group of them, so that neighbours read neighbouring blocks; weights are
// decoded in registers, and the activations of a group, which have more bytes than its weights, are read once for all rows.
// Reads the rows of W once; 2 * rows * inputs operations.

@compute @workgroup_size(64)
fn multiply(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first_row = (group.y * groups.x + group.x) * 64u / LANES * ROWS;
  let own_row = first_row + lane / LANES * ROWS;
  var sums: array<f32, SUMS>;
  if (own_row < p.rows) {
    for (var g = lane % LANES; g < p.groups; g += LANES) {
      let x = scratch[g];
      for (var r = 0u; r < ROWS; r++) {
        let codes = load_codes(WEIGHTS_OFFSET + min(own_row + r, p.rows - 1u) * p.row_bytes, g);
        sums[r] += product(codes, half_of_codes(codes.low), half_of_codes(codes.high), x);
      }
    }
  }
  finish(lane, first_row, 0u, &sums);
}
