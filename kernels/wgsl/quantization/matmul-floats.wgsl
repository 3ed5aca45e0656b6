// y = x W^T + bias + residual, W in rows of f32, f16 or bf16. Contract: packages/quantization/src/ops/matmul.ts. Behind words.wgsl.
// 8 rows of W and TOKENS tokens a workgroup: 8 invocations share a row and take every eighth element of it. One barrier, at the end.
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

fn weight_at(row: u32, k: u32) -> f32 {
  switch p.kind {
    case 0u: { return bitcast<f32>(weights[row / 4u + k]); }
    case 1u: { return half_at(row + 2u * k); }
    default: {
      let at = row + 2u * k;
      return bitcast<f32>(((weights[at / 4u] >> (8u * (at % 4u))) & 0xffffu) << 16u);
    }
  }
}

var<workgroup> partial: array<f32, PARTIALS>;

@compute @workgroup_size(64)
fn multiply(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.y * groups.x + group.x;
  let row_blocks = (p.rows + 7u) / 8u;
  let first_row = index % row_blocks * 8u;
  let first_token = index / row_blocks * TOKENS;
  if (first_token >= p.tokens) {
    return;
  }
  let own_row = first_row + lane / 8u;
  var sums: array<f32, TOKENS>;
  if (own_row < p.rows) {
    let row_at = WEIGHTS_OFFSET + own_row * p.row_bytes;
    for (var k = lane % 8u; k < p.in_features; k += 8u) {
      let weight = weight_at(row_at, k);
      for (var t = 0u; t < TOKENS; t++) {
        sums[t] += weight * x[X_OFFSET + min(first_token + t, p.tokens - 1u) * p.in_features + k];
      }
    }
  }
  for (var t = 0u; t < TOKENS; t++) {
    partial[lane * TOKENS + t] = sums[t];
  }
  workgroupBarrier();
  for (var result = lane; result < 8u * TOKENS; result += 64u) {
    let row = result / TOKENS;
    let token = first_token + result % TOKENS;
    if (first_row + row < p.rows && token < p.tokens) {
      var sum = 0.0;
      for (var part = 0u; part < 8u; part++) {
        sum += partial[(row * 8u + part) * TOKENS + result % TOKENS];
      }
      write_result(token, p.first_row + first_row + row, sum);
    }
  }
}
