// Softmax over the last axis. Contract: packages/core-tensor/src/ops/softmax.ts. One workgroup a row; behind common/reduce-*.wgsl.
// Moves 8 * rows * width bytes (x is read three times, twice from cache).

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
  let row = group.y * groups.x + group.x;
  if (row >= p.count) {
    return;
  }
  let base = row * p.width;
  var own = -3.402823e38;
  for (var column = lane; column < p.width; column += 64u) {
    own = max(own, x[p.x_offset + base + column]);
  }
  let largest = workgroup_max(own, lane);
  var sum = 0.0;
  for (var column = lane; column < p.width; column += 64u) {
    sum += exp(x[p.x_offset + base + column] - largest);
  }
  let total = workgroup_sum(sum, lane);
  for (var column = lane; column < p.width; column += 64u) {
    y[p.y_offset + base + column] = exp(x[p.x_offset + base + column] - largest) / total;
  }
}
