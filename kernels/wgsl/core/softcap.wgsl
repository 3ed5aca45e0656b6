// y = cap * tanh(x / cap). Contract: packages/core-tensor/src/ops/softcap.ts. 8 bytes an element.

struct Parameters {
  x_offset: u32,
  y_offset: u32,
  pad0: u32,
  pad1: u32,
  count: u32,
  cap: f32,
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
  y[p.y_offset + index] = p.cap * tanh(clamp(x[p.x_offset + index] / p.cap, -10.0, 10.0));
}
