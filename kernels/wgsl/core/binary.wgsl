// y = f(a, b) with broadcasting: strides of 0 repeat. Contract: packages/core-tensor/src/ops/binary.ts. element_t is f32 or i32. 12 bytes an element.

const INTEGER = element_t(1) / element_t(2) == element_t(0);

struct Parameters {
  a_offset: u32,
  b_offset: u32,
  y_offset: u32,
  pad0: u32,
  count: u32,
  kind: u32,
  shape0: u32,
  shape1: u32,
  shape2: u32,
  shape3: u32,
  shape4: u32,
  shape5: u32,
  a_stride0: u32,
  a_stride1: u32,
  a_stride2: u32,
  a_stride3: u32,
  a_stride4: u32,
  a_stride5: u32,
  b_stride0: u32,
  b_stride1: u32,
  b_stride2: u32,
  b_stride3: u32,
  b_stride4: u32,
  b_stride5: u32,
  // First element of y, and of what is bound of a and b.
  start: u32,
  a_first: u32,
  b_first: u32,
}

@group(0) @binding(0) var<storage, read> a: array<element_t>;
@group(0) @binding(1) var<storage, read> b: array<element_t>;
@group(0) @binding(2) var<storage, read_write> y: array<element_t>;
@group(0) @binding(3) var<uniform> p: Parameters;

fn apply(kind: u32, a: element_t, b: element_t) -> element_t {
  switch kind {
    case 0u: { return a + b; }
    case 1u: { return a - b; }
    case 2u: { return a * b; }
    case 3u: { return quotient(a, b); }
    case 4u: { return max(a, b); }
    case 5u: { return min(a, b); }
    case 6u: { return power(a, b); }
    case 7u: { return element_t(a == b); }
    case 8u: { return element_t(a != b); }
    case 9u: { return element_t(a < b); }
    case 10u: { return element_t(a <= b); }
    case 11u: { return element_t(a > b); }
    default: { return element_t(a >= b); }
  }
}

fn quotient(a: element_t, b: element_t) -> element_t {
  if (INTEGER && b == element_t(0)) {
    return element_t(0);
  }
  return a / b;
}

fn power(a: element_t, b: element_t) -> element_t {
  return element_t(pow(f32(a), f32(b)));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.count) {
    return;
  }
  var rest = p.start + index;
  var at_a = 0u;
  var at_b = 0u;
  at_a += (rest % p.shape5) * p.a_stride5;
  at_b += (rest % p.shape5) * p.b_stride5;
  rest /= p.shape5;
  at_a += (rest % p.shape4) * p.a_stride4;
  at_b += (rest % p.shape4) * p.b_stride4;
  rest /= p.shape4;
  at_a += (rest % p.shape3) * p.a_stride3;
  at_b += (rest % p.shape3) * p.b_stride3;
  rest /= p.shape3;
  at_a += (rest % p.shape2) * p.a_stride2;
  at_b += (rest % p.shape2) * p.b_stride2;
  rest /= p.shape2;
  at_a += (rest % p.shape1) * p.a_stride1;
  at_b += (rest % p.shape1) * p.b_stride1;
  rest /= p.shape1;
  at_a += (rest % p.shape0) * p.a_stride0;
  at_b += (rest % p.shape0) * p.b_stride0;
  y[p.y_offset + index] = apply(p.kind, a[p.a_offset + at_a - p.a_first], b[p.b_offset + at_b - p.b_first]);
}
