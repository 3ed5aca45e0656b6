// y[i] = row ids[i] of the weights as f32. Contract: packages/quantization/src/ops/dequantize-rows.ts.
// Behind words.wgsl and what decodes a unit of a row: one element, or 32 weights. One invocation decodes one unit. Large tables come in several dispatches over row ranges; each writes the rows it holds, and
// zeros for ids outside of the table.

struct Parameters {
  blocks_offset: u32,
  ids_offset: u32,
  y_offset: u32,
  pad0: u32,
  count: u32,
  units_per_row: u32,
  row_bytes: u32,
  kind: u32,
  // Weights of a unit.
  elements: u32,
  // Rows of the table that are bound, and rows it has.
  first_row: u32,
  rows: u32,
  table_rows: u32,
}

@group(0) @binding(0) var<storage, read> weights: array<u32>;
@group(0) @binding(1) var<storage, read> ids: array<i32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> p: Parameters;

/* decoder */

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.count) {
    return;
  }
  let item = index / p.units_per_row;
  let id = u32(ids[p.ids_offset + item]);
  let row = id - p.first_row;
  let to = p.y_offset + index * p.elements;
  if (id >= p.table_rows) {
    for (var e = 0u; e < p.elements; e++) {
      y[to + e] = 0.0;
    }
  }
  if (row < p.rows) {
    write_unit(p.blocks_offset + row * p.row_bytes, index % p.units_per_row, to);
  }
}
