// y = a b. Contract: packages/core-tensor/src/ops/matmul.ts. One invocation computes four columns of one row: no barrier.

struct Parameters {
  a_offset: u32,
  b_offset: u32,
  y_offset: u32,
  pad0: u32,
  m: u32,
  k: u32,
  n: u32,
  transpose_a: u32,
  transpose_b: u32,
  a_start: u32,
  b_start: u32,
  y_start: u32,
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.m * ((p.n + 3u) / 4u)) {
    return;
  }
  let per_row = (p.n + 3u) / 4u;
  let row = index / per_row;
  let column = index % per_row * 4u;
  var sums = vec4f(0.0);
  for (var inner = 0u; inner < p.k; inner++) {
    let at_a = select(row * p.k + inner, inner * p.m + row, p.transpose_a == 1u);
    let value = a[p.a_offset + p.a_start + at_a];
    for (var part = 0u; part < 4u; part++) {
      let at = min(column + part, p.n - 1u);
      let at_b = select(inner * p.n + at, at * p.k + inner, p.transpose_b == 1u);
      sums[part] += value * b[p.b_offset + p.b_start + at_b];
    }
  }
  for (var part = 0u; part < min(4u, p.n - column); part++) {
    y[p.y_offset + p.y_start + row * p.n + column + part] = sums[part];
  }
}
