// y = f(x), element by element. Contract: packages/core-tensor/src/ops/unary.ts. One invocation an element; 8 bytes moved each.

struct Parameters {
  x_offset: u32,
  y_offset: u32,
  pad0: u32,
  pad1: u32,
  count: u32,
  kind: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Parameters;

// 1 - erf(x) for x >= 0, to 1.2e-7 of itself: Numerical Recipes' Chebyshev fit (Press et al., section 6.2).
fn erf_complement(x: f32) -> f32 {
  let t = 1.0 / (1.0 + 0.5 * x);
  var sum = 0.17087277;
  sum = sum * t - 0.82215223;
  sum = sum * t + 1.48851587;
  sum = sum * t - 1.13520398;
  sum = sum * t + 0.27886807;
  sum = sum * t - 0.18628806;
  sum = sum * t + 0.09678418;
  sum = sum * t + 0.37409196;
  sum = sum * t + 1.00002368;
  return t * exp(-x * x - 1.26551223 + t * sum);
}

// x (1 + erf(x / sqrt 2)) / 2, without the cancellation of 1 + erf for negative x.
fn gelu_erf(x: f32) -> f32 {
  let complement = erf_complement(abs(x) * 0.7071067812);
  return 0.5 * x * select(complement, 2.0 - complement, x >= 0.0);
}

// What logarithms and roots of negative numbers give differs between devices.
fn not_below_zero(x: f32, value: f32) -> f32 {
  var not_a_number = 0x7fc00000u;
  return select(value, bitcast<f32>(not_a_number), x < 0.0);
}

// tanh overflows in some implementations for large arguments; it is 1 to f32 precision from 10 on.
fn safe_tanh(x: f32) -> f32 {
  return tanh(clamp(x, -10.0, 10.0));
}

// The list of packages/core-tensor/src/ops/unary.ts, in its order.
fn unary(kind: u32, x: f32) -> f32 {
  switch kind {
    case 0u: { return -x; }
    case 1u: { return abs(x); }
    case 2u: { return exp(x); }
    case 3u: { return not_below_zero(x, log(x)); }
    case 4u: { return not_below_zero(x, sqrt(x)); }
    case 5u: { return not_below_zero(x, 1.0 / sqrt(x)); }
    case 6u: { return 1.0 / x; }
    case 7u: { return x * x; }
    case 8u: { return safe_tanh(x); }
    case 9u: { return 1.0 / (1.0 + exp(-x)); }
    case 10u: { return max(x, 0.0); }
    case 11u: { return max(x, 0.0) * max(x, 0.0); }
    case 12u: { return x / (1.0 + exp(-x)); }
    case 13u: { return 0.5 * x * (1.0 + safe_tanh(0.7978845608 * (x + 0.044715 * x * x * x))); }
    default: { return gelu_erf(x); }
  }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.count) {
    return;
  }
  y[p.y_offset + index] = unary(p.kind, x[p.x_offset + index]);
}
