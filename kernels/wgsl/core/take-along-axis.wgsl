// y[r, i] = x[r, indices[r, i]]. Contract: packages/core-tensor/src/ops/take-along-axis.ts. An index outside gives 0.

struct Parameters {
  x_offset: u32,
  indices_offset: u32,
  y_offset: u32,
  pad0: u32,
  count: u32,
  width: u32,
  items: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> indices: array<i32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.count) {
    return;
  }
  let at = u32(indices[p.indices_offset + index]);
  y[p.y_offset + index] = select(0.0, x[p.x_offset + index / p.items * p.width + min(at, p.width - 1u)], at < p.width);
}
