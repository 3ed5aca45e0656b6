// Layer normalisation. Contract: packages/core-tensor/src/ops/layer-norm.ts. One workgroup a row; behind common/reduce-*.wgsl.
// Moves 8 * rows * width bytes (x is read three times, twice from cache).

struct Parameters {
  x_offset: u32,
  weight_offset: u32,
  bias_offset: u32,
  y_offset: u32,
  count: u32,
  width: u32,
  eps: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<uniform> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= p.count) {
    return;
  }
  let base = row * p.width;
  var sum = 0.0;
  for (var column = lane; column < p.width; column += 64u) {
    sum += x[p.x_offset + base + column];
  }
  let mean = workgroup_sum(sum, lane) / f32(p.width);
  var squares = 0.0;
  for (var column = lane; column < p.width; column += 64u) {
    let centred = x[p.x_offset + base + column] - mean;
    squares += centred * centred;
  }
  let scale = 1.0 / sqrt(workgroup_sum(squares, lane) / f32(p.width) + p.eps);
  for (var column = lane; column < p.width; column += 64u) {
    let centred = (x[p.x_offset + base + column] - mean) * scale;
    y[p.y_offset + base + column] = centred * weight[p.weight_offset + column] + bias[p.bias_offset + column];
  }
}
