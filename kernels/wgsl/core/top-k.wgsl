// The k largest elements of each row, descending, ties to the lower index. Contract: packages/core-tensor/src/ops/top-k.ts.
// One workgroup a row. Each pick scans the row for the best element behind the last one picked: k passes, no scratch memory.

struct Parameters {
  x_offset: u32,
  values_offset: u32,
  indices_offset: u32,
  pad0: u32,
  rows: u32,
  width: u32,
  k: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> values: array<f32>;
@group(0) @binding(2) var<storage, read_write> indices: array<i32>;
@group(0) @binding(3) var<uniform> p: Parameters;

@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = group.y * groups.x + group.x;
  if (row >= p.rows) {
    return;
  }
  let base = p.x_offset + row * p.width;
  var last_value = 0.0;
  var last_index = 0u;
  for (var pick = 0u; pick < p.k; pick++) {
    var found = false;
    var value = 0.0;
    var index = 0u;
    for (var column = 0u; column < p.width; column++) {
      let candidate = x[base + column];
      let left = pick == 0u || candidate < last_value || (candidate == last_value && column > last_index);
      if (left && (!found || candidate > value)) {
        found = true;
        value = candidate;
        index = column;
      }
    }
    values[p.values_offset + row * p.k + pick] = value;
    indices[p.indices_offset + row * p.k + pick] = i32(index);
    last_value = value;
    last_index = index;
  }
}
