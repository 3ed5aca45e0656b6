// y = x W^T + bias + residual, W in GGUF blocks as in the file, for many tokens. Contract: packages/quantization/src/ops/matmul.ts. Behind
// activations.wgsl.
//
// A workgroup computes 32 rows of W times 32 tokens. Per group of 32 inputs half of its invocations decode the group of a row each, the others
// fetch that of a token, both to workgroup memory; then each of the 8 x 8 invocations multiplies 4 rows with 4 tokens in registers. Fours lie
// [input / 4][row or token], and an invocation has every 8th, so that neighbours read neighbouring ones.
// Reads the rows of W once per 32 tokens and the activations once per 32 rows; 2 * tokens * rows * inputs operations, two barriers per 32 inputs.

var<workgroup> tile_weights: array<Four, 256>;
var<workgroup> tile_x: array<Four, 256>;
// [half][row]: scale and offset.
var<workgroup> tile_scales: array<vec2f, 64>;
var<workgroup> tile_x_scales: array<f32, 32>;
// [half][token].
var<workgroup> tile_x_sums: array<Count, 64>;

fn load_row(row_at: u32, g: u32, to: u32) {
  let codes = load_codes(row_at, g);
  for (var part = 0u; part < 4u; part++) {
    tile_weights[part * 32u + to] = four_of_codes(codes.low[part]);
    tile_weights[part * 32u + 128u + to] = four_of_codes(codes.high[part]);
  }
  tile_scales[to] = vec2f(codes.scale.x, codes.offset.x);
  tile_scales[to + 32u] = vec2f(codes.scale.y, codes.offset.y);
}

fn load_token(at: u32, to: u32) {
  for (var part = 0u; part < 4u; part++) {
    tile_x[part * 32u + to] = scratch[at].low[part];
    tile_x[part * 32u + 128u + to] = scratch[at].high[part];
  }
  tile_x_scales[to] = scratch[at].scale;
  tile_x_sums[to] = scratch[at].sums.x;
  tile_x_sums[to + 32u] = scratch[at].sums.y;
}

// Of four weights of a row with four tokens.
fn dots(weights: Four, x0: Four, x1: Four, x2: Four, x3: Four) -> Counts {
  return Counts(dot_four(weights, x0), dot_four(weights, x1), dot_four(weights, x2), dot_four(weights, x3));
}

// Those of a half of a group, without the scale of the activations.
fn scaled(row: u32, counts: Counts, sums: Counts) -> vec4f {
  return tile_scales[row].x * biased(counts, sums) + tile_scales[row].y * vec4f(sums);
}

fn write_four(row: u32, token: u32, sums: vec4f) {
  for (var t = 0u; t < 4u; t++) {
    if (row < p.rows && token + 8u * t < p.tokens) {
      write_result(token + 8u * t, p.first_row + row, sums[t]);
    }
  }
}

@compute @workgroup_size(64)
fn multiply(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.y * groups.x + group.x;
  let row_blocks = (p.rows + 31u) / 32u;
  let first_row = index % row_blocks * 32u;
  let first_token = index / row_blocks * 32u;
  if (first_token >= p.tokens) {
    return;
  }
  let row = lane % 8u;
  let token = lane / 8u;
  let own_row = WEIGHTS_OFFSET + min(first_row + lane % 32u, p.rows - 1u) * p.row_bytes;
  let own_token = min(first_token + lane % 32u, p.tokens - 1u) * p.groups;
  var sums0 = vec4f(0.0);
  var sums1 = vec4f(0.0);
  var sums2 = vec4f(0.0);
  var sums3 = vec4f(0.0);
  for (var g = 0u; g < p.groups; g++) {
    // Whatever the last group's tile is read for is read.
    workgroupBarrier();
    if (lane < 32u) {
      load_row(own_row, g, lane);
    } else {
      load_token(own_token + g, lane - 32u);
    }
    workgroupBarrier();
    let scales = vec4f(tile_x_scales[token], tile_x_scales[token + 8u], tile_x_scales[token + 16u], tile_x_scales[token + 24u]);
    for (var half = 0u; half < 2u; half++) {
      var dots0 = Counts();
      var dots1 = Counts();
      var dots2 = Counts();
      var dots3 = Counts();
      for (var part = 0u; part < 4u; part++) {
        let k = (4u * half + part) * 32u;
        let x0 = tile_x[k + token];
        let x1 = tile_x[k + token + 8u];
        let x2 = tile_x[k + token + 16u];
        let x3 = tile_x[k + token + 24u];
        dots0 += dots(tile_weights[k + row], x0, x1, x2, x3);
        dots1 += dots(tile_weights[k + row + 8u], x0, x1, x2, x3);
        dots2 += dots(tile_weights[k + row + 16u], x0, x1, x2, x3);
        dots3 += dots(tile_weights[k + row + 24u], x0, x1, x2, x3);
      }
      let at = 32u * half;
      let x_sums = Counts(
        tile_x_sums[at + token],
        tile_x_sums[at + token + 8u],
        tile_x_sums[at + token + 16u],
        tile_x_sums[at + token + 24u],
      );
      sums0 += scales * scaled(at + row, dots0, x_sums);
      sums1 += scales * scaled(at + row + 8u, dots1, x_sums);
      sums2 += scales * scaled(at + row + 16u, dots2, x_sums);
      sums3 += scales * scaled(at + row + 24u, dots3, x_sums);
    }
  }
  write_four(first_row + row, first_token + token, sums0);
  write_four(first_row + row + 8u, first_token + token, sums1);
  write_four(first_row + row + 16u, first_token + token, sums2);
  write_four(first_row + row + 24u, first_token + token, sums3);
}
