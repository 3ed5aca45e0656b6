// y = x W^T + bias + residual, W in GGUF blocks as in the file. Contract: packages/quantization/src/ops/matmul.ts.
// One invocation computes one row of W for up to four tokens, decoding every weight once: no barrier, no shared memory.
// With q8-32 the activations are quantised on the way, 32 at a time, as the op defines. Large weights come in dispatches over row ranges.

struct Parameters {
  offsets: vec4u,
  OFFSETS_HIGH
  tokens: u32,
  out_features: u32,
  in_features: u32,
  kind: u32,
  row_bytes: u32,
  integer: u32,
  first_row: u32,
  rows: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weights: array<u32>;
OPTIONAL_BINDINGS
@group(0) @binding(Y_BINDING) var<storage, read_write> y: array<f32>;
@group(0) @binding(P_BINDING) var<uniform> p: Parameters;

fn weight_word(index: u32) -> u32 {
  return weights[index];
}

// Elements and bytes of a block.
fn block_size(kind: u32) -> vec2u {
  switch kind {
    case 0u: { return vec2u(1u, 4u); }
    case 1u, 30u: { return vec2u(1u, 2u); }
    case 2u: { return vec2u(32u, 18u); }
    case 3u: { return vec2u(32u, 20u); }
    case 6u: { return vec2u(32u, 22u); }
    case 8u: { return vec2u(32u, 34u); }
    case 12u: { return vec2u(256u, 144u); }
    default: { return vec2u(256u, 210u); }
  }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.y * groups.x + group.x;
  let row_groups = (p.rows + 63u) / 64u;
  let local_row = index % row_groups * 64u + lane;
  let first_token = index / row_groups * 4u;
  if (local_row >= p.rows || first_token >= p.tokens) {
    return;
  }
  let row = p.first_row + local_row;
  let count = min(4u, p.tokens - first_token);
  let size = block_size(p.kind);
  let row_at = p.offsets[1] + local_row * p.row_bytes;
  var sums = vec4f(0.0);
  if (p.integer == 0u) {
    for (var k = 0u; k < p.in_features; k++) {
      let parts = weight_parts(p.kind, row_at + k / size.x * size.y, k % size.x);
      let weight = parts.y * parts.x + parts.z;
      for (var t = 0u; t < count; t++) {
        sums[t] += weight * x[p.offsets[0] + (first_token + t) * p.in_features + k];
      }
    }
  } else {
    for (var first = 0u; first < p.in_features; first += 32u) {
      var inverse = vec4f(0.0);
      var d = vec4f(0.0);
      for (var t = 0u; t < count; t++) {
        let at = p.offsets[0] + (first_token + t) * p.in_features + first;
        var amax = 0.0;
        for (var e = 0u; e < 32u; e++) {
          amax = max(amax, abs(x[at + e]));
        }
        d[t] = amax / 127.0;
        inverse[t] = select(0.0, 127.0 / amax, amax > 0.0);
      }
      // Two halves of 16: the scale of Q6_K changes there. Levels and codes are integers below 2^24, so the f32 dots are exact.
      for (var half = 0u; half < 2u; half++) {
        var dots = vec4f(0.0);
        var code_sums = vec4f(0.0);
        var parts = vec3f(0.0);
        for (var e = 0u; e < 16u; e++) {
          let k = first + 16u * half + e;
          parts = weight_parts(p.kind, row_at + k / size.x * size.y, k % size.x);
          for (var t = 0u; t < count; t++) {
            let code = round(x[p.offsets[0] + (first_token + t) * p.in_features + k] * inverse[t]);
            dots[t] += parts.x * code;
            code_sums[t] += code;
          }
        }
        sums += parts.y * (dots * d) + parts.z * (code_sums * d);
      }
    }
  }
  for (var t = 0u; t < count; t++) {
    let token = first_token + t;
    y[Y_OFFSET + token * p.out_features + row] = sums[t] + BIAS_VALUE + RESIDUAL_VALUE;
  }
}
