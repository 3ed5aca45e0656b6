// y = x with rows set or added by id, in order. Contract: packages/core-tensor/src/ops/scatter-rows.ts.
// One invocation owns one element of y and looks through all ids, so no atomics and a fixed order. Rows that do not fit into a binding come in
// several dispatches, of which the later ones go on from y.

struct Parameters {
  x_offset: u32,
  ids_offset: u32,
  rows_offset: u32,
  y_offset: u32,
  count: u32,
  width: u32,
  ids_count: u32,
  add: u32,
  // First element of y, and whether it holds what earlier dispatches wrote.
  first: u32,
  resume: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> ids: array<i32>;
@group(0) @binding(2) var<storage, read> rows: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<uniform> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.count) {
    return;
  }
  let row = i32((p.first + index) / p.width);
  let column = (p.first + index) % p.width;
  var value = x[p.x_offset + index];
  if (p.resume == 1u) {
    value = y[p.y_offset + index];
  }
  for (var item = 0u; item < p.ids_count; item++) {
    if (ids[p.ids_offset + item] == row) {
      let written = rows[p.rows_offset + item * p.width + column];
      value = select(written, value + written, p.add == 1u);
    }
  }
  y[p.y_offset + index] = value;
}
