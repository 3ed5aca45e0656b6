// y = a b. Contract: packages/core-tensor/src/ops/matmul.ts. One invocation computes a block of 4 rows by 4 columns: no barrier; 8 loads for
// 16 multiply-adds. A dispatch covers rows, columns or a part of the inner dimension; with `accumulate` it adds to what is there.

struct Parameters {
  a_offset: u32,
  b_offset: u32,
  y_offset: u32,
  pad0: u32,
  rows: u32,
  inner: u32,
  columns: u32,
  // Strides in elements of a row and of an inner step.
  a_row: u32,
  a_inner: u32,
  b_inner: u32,
  b_column: u32,
  y_row: u32,
  first_column: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  let blocks = (p.columns + 3u) / 4u;
  let row = index / blocks * 4u;
  if (row >= p.rows) {
    return;
  }
  let column = index % blocks * 4u;
  // Rows and columns past the end repeat the last one and are not written.
  let at_rows = min(vec4u(row, row + 1u, row + 2u, row + 3u), vec4u(p.rows - 1u)) * p.a_row + p.a_offset;
  let at_columns = min(vec4u(column, column + 1u, column + 2u, column + 3u), vec4u(p.columns - 1u)) * p.b_column + p.b_offset;
  var sum0 = vec4f(0.0);
  var sum1 = vec4f(0.0);
  var sum2 = vec4f(0.0);
  var sum3 = vec4f(0.0);
  for (var inner = 0u; inner < p.inner; inner++) {
    let at_a = at_rows + inner * p.a_inner;
    let at_b = at_columns + inner * p.b_inner;
    let right = vec4f(b[at_b.x], b[at_b.y], b[at_b.z], b[at_b.w]);
    sum0 += a[at_a.x] * right;
    sum1 += a[at_a.y] * right;
    sum2 += a[at_a.z] * right;
    sum3 += a[at_a.w] * right;
  }
  store(row, column, sum0);
  store(row + 1u, column, sum1);
  store(row + 2u, column, sum2);
  store(row + 3u, column, sum3);
}

fn store(row: u32, column: u32, sums: vec4f) {
  if (row >= p.rows) {
    return;
  }
  for (var part = 0u; part < min(4u, p.columns - column); part++) {
    let at = p.y_offset + row * p.y_row + p.first_column + column + part;
    if (p.accumulate == 1u) {
      y[at] += sums[part];
    } else {
      y[at] = sums[part];
    }
  }
}
