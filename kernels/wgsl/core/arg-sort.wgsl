// Rank of every element by counting those before it; y[rank] = index. Contract: packages/core-tensor/src/ops/arg-sort.ts.
// n^2 comparisons a row without a barrier: rows of some thousand elements at most.

struct Parameters {
  x_offset: u32,
  y_offset: u32,
  pad0: u32,
  pad1: u32,
  count: u32,
  width: u32,
  descending: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<i32>;
@group(0) @binding(2) var<uniform> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.count) {
    return;
  }
  let row = index / p.width;
  let own = index % p.width;
  let value = x[p.x_offset + index];
  var rank = 0u;
  for (var other = 0u; other < p.width; other++) {
    let against = x[p.x_offset + row * p.width + other];
    let before = select((against < value), (against > value), p.descending == 1u);
    rank += u32(before || (against == value && other < own));
  }
  y[p.y_offset + row * p.width + rank] = i32(own);
}
