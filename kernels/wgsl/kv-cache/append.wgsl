// New keys and values into their slots of the pages. Contract: packages/kv-cache/src/ops/append.ts.
// One invocation writes one word: an f32, or two f16. Pages are words, so f16 rows have an even number of channels. Where a binding does not
// hold the pages, a dispatch sees a window of each and leaves what lies elsewhere to the others. Slots outside of the pages write nothing.

struct Parameters {
  key_pages_offset: u32,
  value_pages_offset: u32,
  k_offset: u32,
  v_offset: u32,
  slots_offset: u32,
  pad0: u32,
  pad1: u32,
  pad2: u32,
  key_words: u32,
  words: u32,
  heads: u32,
  page_size: u32,
  key_dim: u32,
  value_dim: u32,
  slot_count: u32,
  // First element and length of the windows of the pages.
  key_start: u32,
  key_count: u32,
  value_start: u32,
  value_count: u32,
}

@group(0) @binding(0) var<storage, read_write> key_pages: array<u32>;
@group(0) @binding(1) var<storage, read_write> value_pages: array<u32>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read> slots: array<i32>;
@group(0) @binding(5) var<uniform> p: Parameters;

// Round to nearest even, in integers: pack2x16float may truncate.
fn half_bits(value: f32) -> u32 {
  let magnitude = bitcast<u32>(value) & 0x7fffffffu;
  let sign = (bitcast<u32>(value) >> 16u) & 0x8000u;
  if (magnitude > 0x7f800000u) {
    return sign | 0x7e00u;
  }
  if (magnitude >= 0x477ff000u) {
    return sign | 0x7c00u;
  }
  if (magnitude < 0x38800000u) {
    // Multiples of 2^-24: adding 0.5 leaves them in the low bits, rounded to even.
    return sign | (bitcast<u32>(bitcast<f32>(magnitude) + 0.5) - 0x3f000000u);
  }
  let rebiased = magnitude - 0x38000000u;
  return sign | ((rebiased + 0xfffu + ((rebiased >> 13u) & 1u)) >> 13u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.words) {
    return;
  }
  let is_key = index < p.key_words;
  let per_word = select(1u, 2u, HALF);
  let dim = select(p.value_dim, p.key_dim, is_key);
  let local = select(index - p.key_words, index, is_key);
  let row_words = dim / per_word;
  let channel = local % row_words * per_word;
  let head_row = local / row_words;
  let row = head_row / p.heads;
  let slot = u32(slots[p.slots_offset + row]);
  if (slot >= p.slot_count) {
    return;
  }
  let page_row = (slot / p.page_size * p.heads + head_row % p.heads) * p.page_size + slot % p.page_size;
  let source = head_row * dim + channel;
  let position = page_row * dim + channel;
  if (is_key) {
    let at = position - p.key_start;
    if (at < p.key_count) {
      key_pages[(p.key_pages_offset + at) / per_word] = packed(k[p.k_offset + source], k[p.k_offset + source + per_word - 1u]);
    }
  } else {
    let at = position - p.value_start;
    if (at < p.value_count) {
      value_pages[(p.value_pages_offset + at) / per_word] = packed(v[p.v_offset + source], v[p.v_offset + source + per_word - 1u]);
    }
  }
}

// One word of the pages: an f32, or two halves.
fn packed(first: f32, second: f32) -> u32 {
  if (HALF) {
    return half_bits(first) | (half_bits(second) << 16u);
  }
  return bitcast<u32>(first);
}
