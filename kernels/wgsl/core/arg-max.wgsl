// Index of the largest element of each row, ties to the lower index. Contract: packages/core-tensor/src/ops/arg-max.ts.
// One workgroup a row: 64 invocations scan strided columns, the first one compares their 64 results.

struct Parameters {
  x_offset: u32,
  y_offset: u32,
  pad0: u32,
  pad1: u32,
  rows: u32,
  width: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<i32>;
@group(0) @binding(2) var<uniform> p: Parameters;

var<workgroup> best_value: array<f32, 64>;
var<workgroup> best_index: array<u32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= p.rows) {
    return;
  }
  let base = p.x_offset + row * p.width;
  var value = -3.402823e38;
  var index = lane;
  for (var column = lane; column < p.width; column += 64u) {
    if (x[base + column] > value || column == lane) {
      value = x[base + column];
      index = column;
    }
  }
  best_value[lane] = value;
  best_index[lane] = index;
  workgroupBarrier();
  if (lane == 0u) {
    for (var other = 1u; other < min(64u, p.width); other++) {
      let better = best_value[other] > value || (best_value[other] == value && best_index[other] < index);
      if (better) {
        value = best_value[other];
        index = best_index[other];
      }
    }
    y[p.y_offset + row] = i32(index);
  }
}
