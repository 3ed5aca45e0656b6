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

// The built-in functions are right to 2^-11 only. Quarter turns are taken off with pi / 2 in three parts, of which the first two have so few
// bits that their products with the number of quarters are exact; then the polynomials of Cephes on [-pi/4, pi/4]: 1e-7.
fn cosine_and_sine(angle: f32) -> vec2f {
  let quarters = round(angle * 0.63661977);
  let x = angle - quarters * 1.5625 - quarters * 0.00830078125 + quarters * 4.4544551e-6;
  let s = x * x;
  let sine = x + x * s * (-1.6666654611e-1 + s * (8.3321608736e-3 - s * 1.9515295891e-4));
  let cosine = 1.0 - 0.5 * s + s * s * (4.166664568298827e-2 + s * (-1.388731625493765e-3 + s * 2.443315711809948e-5));
  switch i32(quarters) & 3 {
    case 0: { return vec2f(cosine, sine); }
    case 1: { return vec2f(-sine, cosine); }
    case 2: { return vec2f(-cosine, -sine); }
    default: { return vec2f(sine, -cosine); }
  }
}

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
  let turn = cosine_and_sine(angle) * p.scale;
  let first = select(2u * slot, slot, p.halves == 1u);
  let second = select(2u * slot + 1u, slot + p.pairs, p.halves == 1u);
  let a = x[p.x_offset + base + first];
  let b = x[p.x_offset + base + second];
  y[p.y_offset + base + first] = a * turn.x - b * turn.y;
  y[p.y_offset + base + second] = b * turn.x + a * turn.y;
}
