// Rotary position embedding. Contract: packages/core-tensor/src/ops/rope.ts. One invocation a pair (or a channel that passes through).

struct Parameters {
  x_offset: u32,
  positions_offset: u32,
  inverse_frequencies_offset: u32,
  y_offset: u32,
  count: u32,
  heads: u32,
  dim: u32,
  pairs: u32,
  halves: u32,
  scale: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> positions: array<i32>;
@group(0) @binding(2) var<storage, read> inverse_frequencies: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<uniform> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.count) {
    return;
  }
  let pass_channels = p.dim - 2u * p.pairs;
  let slots = p.pairs + pass_channels;
  let slot = index % slots;
  let head_row = index / slots;
  let token = head_row / p.heads;
  let base = head_row * p.dim;
  if (slot >= p.pairs) {
    let channel = slot + p.pairs;
    y[p.y_offset + base + channel] = x[p.x_offset + base + channel];
    return;
  }
  let angle = f32(positions[p.positions_offset + token]) * inverse_frequencies[p.inverse_frequencies_offset + slot];
  // Reduced by whole turns first: sine and cosine lose accuracy for large arguments on some devices.
  let turned = angle - floor(angle * 0.15915494309189535) * 6.28318548 + floor(angle * 0.15915494309189535) * 1.7484555e-7;
  let cosine = cos(turned) * p.scale;
  let sine = sin(turned) * p.scale;
  let first = select(2u * slot, slot, p.halves == 1u);
  let second = select(2u * slot + 1u, slot + p.pairs, p.halves == 1u);
  let a = x[p.x_offset + base + first];
  let b = x[p.x_offset + base + second];
  y[p.y_offset + base + first] = a * cosine - b * sine;
  y[p.y_offset + base + second] = b * cosine + a * sine;
}
