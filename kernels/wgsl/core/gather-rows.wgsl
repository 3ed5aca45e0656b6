// y[i] = table[ids[i]], elements of any size up to 4 bytes. Contract: packages/core-tensor/src/ops/gather-rows.ts.
// One invocation writes one word of y. An id outside of the table gives zeros. Where a binding does not hold the table, a dispatch sees a
// window of it and keeps the elements of y that come from elsewhere.

struct Parameters {
  table_offset: u32,
  ids_offset: u32,
  y_offset: u32,
  pad0: u32,
  count: u32,
  rows: u32,
  width: u32,
  size: u32,
  elements: u32,
  // Column of the first element of y; first element and length of the window of the table.
  first_column: u32,
  window_start: u32,
  window_count: u32,
}

@group(0) @binding(0) var<storage, read> table: array<u32>;
@group(0) @binding(1) var<storage, read> ids: array<i32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@group(0) @binding(3) var<uniform> p: Parameters;

// Elements of 1, 2 or 4 bytes inside words; offsets count elements.
fn load_element(at: u32) -> u32 {
  let per_word = 4u / p.size;
  let word = table[at / per_word];
  if (p.size == 4u) {
    return word;
  }
  return (word >> (8u * p.size * (at % per_word))) & ((1u << (8u * p.size)) - 1u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.count) {
    return;
  }
  let per_word = 4u / p.size;
  let mask = select((1u << (8u * p.size)) - 1u, 0xffffffffu, p.size == 4u);
  let at_word = p.y_offset / per_word + index;
  var word = y[at_word];
  for (var part = 0u; part < per_word; part++) {
    let element = index * per_word + part;
    if (element >= p.elements) {
      break;
    }
    let at = p.first_column + element;
    let id = u32(ids[p.ids_offset + at / p.width]);
    let position = id * p.width + at % p.width - p.window_start;
    let shift = 8u * p.size * part;
    if (id >= p.rows) {
      word &= ~(mask << shift);
    } else if (position < p.window_count) {
      word = (word & ~(mask << shift)) | (load_element(p.table_offset + position) << shift);
    }
  }
  y[at_word] = word;
}
