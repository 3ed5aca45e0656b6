// Layer normalisation. Contract: packages/core-tensor/src/ops/layer-norm.ts. One invocation a row: no barrier.

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
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.count) {
    return;
  }
  let base = index * p.width;
  var mean = 0.0;
  for (var column = 0u; column < p.width; column++) {
    mean += x[p.x_offset + base + column];
  }
  mean /= f32(p.width);
  var variance = 0.0;
  for (var column = 0u; column < p.width; column++) {
    let centred = x[p.x_offset + base + column] - mean;
    variance += centred * centred;
  }
  let scale = 1.0 / sqrt(variance / f32(p.width) + p.eps);
  for (var column = 0u; column < p.width; column++) {
    let centred = (x[p.x_offset + base + column] - mean) * scale;
    y[p.y_offset + base + column] = centred * weight[p.weight_offset + column] + bias[p.bias_offset + column];
  }
}
