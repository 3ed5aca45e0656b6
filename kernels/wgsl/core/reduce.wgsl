// Reduction over one axis. Contract: packages/core-tensor/src/ops/reduce.ts. One invocation a result. An axis that does not fit into a binding
// comes in several dispatches: the first starts the result, the others go on from it, the last divides the mean.

struct Parameters {
  x_offset: u32,
  y_offset: u32,
  pad0: u32,
  pad1: u32,
  count: u32,
  // Steps of the axis in this dispatch; elements between steps, between results along the inner axes, between outer ones.
  steps: u32,
  inner: u32,
  step_stride: u32,
  outer_stride: u32,
  kind: u32,
  first: u32,
  last: u32,
  axis_length: u32,
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
  let at = p.x_offset + index / p.inner * p.outer_stride + index % p.inner;
  var value = select(0.0, 1.0, p.kind == 4u);
  if (p.first == 0u) {
    value = y[p.y_offset + index];
  } else if (p.steps > 0u && (p.kind == 2u || p.kind == 3u)) {
    value = x[at];
  }
  for (var step = 0u; step < p.steps; step++) {
    let element = x[at + step * p.step_stride];
    switch p.kind {
      case 2u: { value = max(value, element); }
      case 3u: { value = min(value, element); }
      case 4u: { value *= element; }
      default: { value += element; }
    }
  }
  y[p.y_offset + index] = select(value, value / f32(p.axis_length), p.kind == 1u && p.last == 1u);
}
