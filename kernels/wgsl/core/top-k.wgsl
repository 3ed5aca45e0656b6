// The k largest elements of each row, descending, ties to the lower index. Contract: packages/core-tensor/src/ops/top-k.ts.
// One workgroup a row. Each pick scans the row for the best element behind the last one picked: k passes over the row, two barriers each.

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

const NONE = 0xffffffffu;

var<workgroup> best_value: array<f32, 64>;
var<workgroup> best_index: array<u32, 64>;

struct Pick {
  value: f32,
  index: u32,
}

// True when the candidate stands before the other in the result.
fn before(value: f32, index: u32, other: Pick) -> bool {
  return other.index == NONE || value > other.value || (value == other.value && index < other.index);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= p.rows) {
    return;
  }
  let base = p.x_offset + row * p.width;
  var last = Pick(0.0, NONE);
  for (var pick = 0u; pick < p.k; pick++) {
    var own = Pick(0.0, NONE);
    for (var column = lane; column < p.width; column += 64u) {
      let value = x[base + column];
      let left = pick == 0u || value < last.value || (value == last.value && column > last.index);
      if (left && before(value, column, own)) {
        own = Pick(value, column);
      }
    }
    best_value[lane] = own.value;
    best_index[lane] = own.index;
    workgroupBarrier();
    var best = Pick(0.0, NONE);
    for (var other = 0u; other < 64u; other++) {
      if (best_index[other] != NONE && before(best_value[other], best_index[other], best)) {
        best = Pick(best_value[other], best_index[other]);
      }
    }
    workgroupBarrier();
    if (lane == 0u) {
      values[p.values_offset + row * p.k + pick] = best.value;
      indices[p.indices_offset + row * p.k + pick] = i32(best.index);
    }
    last = best;
  }
}
