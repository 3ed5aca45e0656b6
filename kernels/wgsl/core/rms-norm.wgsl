// y = x / sqrt(mean(x^2) + eps) * (weight + weight_offset). Contract: packages/core-tensor/src/ops/rms-norm.ts.
// x [rows, width] f32, weight [width] f32, y [rows, width] f32. One workgroup a row; behind common/reduce-*.wgsl.
// Moves 8 * rows * width bytes (x is read twice, the second time from cache); memory-bound.

struct Parameters {
  x_offset: u32,
  weight_offset: u32,
  y_offset: u32,
  pad: u32,
  rows: u32,
  width: u32,
  eps: f32,
  scale_offset: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= p.rows) {
    return;
  }
  let base = row * p.width;
  var sum = 0.0;
  for (var column = lane; column < p.width; column += 64u) {
    let value = x[p.x_offset + base + column];
    sum += value * value;
  }
  let scale = 1.0 / sqrt(workgroup_sum(sum, lane) / f32(p.width) + p.eps);
  for (var column = lane; column < p.width; column += 64u) {
    y[p.y_offset + base + column] = x[p.x_offset + base + column] * scale * (weight[p.weight_offset + column] + p.scale_offset);
  }
}
