// y[i...] = x[start + sum i * stride], elements of any size up to 4 bytes: slices and permutations.
// Contracts: packages/core-tensor/src/ops/{slice,permute}.ts. One invocation writes one word of y. Where a binding does not hold x, a dispatch sees a window
// of it and keeps the elements of y that come from elsewhere.

struct Parameters {
  x_offset: u32,
  y_offset: u32,
  pad0: u32,
  pad1: u32,
  count: u32,
  elements: u32,
  size: u32,
  start: u32,
  shape0: u32,
  shape1: u32,
  shape2: u32,
  shape3: u32,
  shape4: u32,
  shape5: u32,
  stride0: u32,
  stride1: u32,
  stride2: u32,
  stride3: u32,
  stride4: u32,
  stride5: u32,
  // First element of y; first element and length of the window of x.
  first: u32,
  window_start: u32,
  window_count: u32,
}

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<uniform> p: Parameters;

// Elements of 1, 2 or 4 bytes inside words; offsets count elements.
fn load_element(at: u32) -> u32 {
  let per_word = 4u / p.size;
  let word = x[at / per_word];
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
    var rest = index * per_word + part;
    if (rest >= p.elements) {
      break;
    }
    rest += p.first;
    var at = p.start;
    at += (rest % p.shape5) * p.stride5;
    rest /= p.shape5;
    at += (rest % p.shape4) * p.stride4;
    rest /= p.shape4;
    at += (rest % p.shape3) * p.stride3;
    rest /= p.shape3;
    at += (rest % p.shape2) * p.stride2;
    rest /= p.shape2;
    at += (rest % p.shape1) * p.stride1;
    rest /= p.shape1;
    at += (rest % p.shape0) * p.stride0;
    if (at - p.window_start < p.window_count) {
      let shift = 8u * p.size * part;
      word = (word & ~(mask << shift)) | (load_element(p.x_offset + at - p.window_start) << shift);
    }
  }
  y[at_word] = word;
}
