// Softmax over the last axis. Contract: packages/core-tensor/src/ops/softmax.ts. One invocation a row: no barrier.

struct Parameters {
  x_offset: u32,
  y_offset: u32,
  pad0: u32,
  pad1: u32,
  count: u32,
  width: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.count) {
    return;
  }
  let base = index * p.width;
  var largest = -3.402823e38;
  for (var column = 0u; column < p.width; column++) {
    largest = max(largest, x[p.x_offset + base + column]);
  }
  var sum = 0.0;
  for (var column = 0u; column < p.width; column++) {
    sum += exp(x[p.x_offset + base + column] - largest);
  }
  for (var column = 0u; column < p.width; column++) {
    y[p.y_offset + base + column] = exp(x[p.x_offset + base + column] - largest) / sum;
  }
}
