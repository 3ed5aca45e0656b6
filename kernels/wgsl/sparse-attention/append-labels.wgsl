// Chosen channels of keys into label pages. Contract: packages/sparse-attention/src/select/append-labels.ts. One invocation writes one word: an
// f32, or two f16, whose bits are copied.

struct Parameters {
  labels_offset: u32,
  k_offset: u32,
  channels_offset: u32,
  slots_offset: u32,
  slots: u32,
  heads: u32,
  kept: u32,
  dim: u32,
  page_size: u32,
  slot_count: u32,
  // Rows of the pages that this dispatch sees.
  first: u32,
  count: u32,
}

@group(0) @binding(0) var<storage, read_write> labels: array<u32>;
@group(0) @binding(1) var<storage, read> k: array<u32>;
@group(0) @binding(2) var<storage, read> channels: array<i32>;
@group(0) @binding(3) var<storage, read> slots: array<i32>;
@group(0) @binding(4) var<uniform> p: Parameters;

// Bits of an element of k, at the lower end.
fn bits(at: u32) -> u32 {
  if (HALF) {
    return extractBits(k[at / 2u], 16u * (at % 2u), 16u);
  }
  return k[at];
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  let per_word = select(1u, 2u, HALF);
  let row_words = p.kept / per_word;
  let word = index % row_words;
  let head = index / row_words % p.heads;
  let at = index / (row_words * p.heads);
  if (at >= p.slots) {
    return;
  }
  let slot = u32(slots[p.slots_offset + at]);
  if (slot >= p.slot_count) {
    return;
  }
  let row = (slot / p.page_size * p.heads + head) * p.page_size + slot % p.page_size - p.first;
  if (row >= p.count) {
    return;
  }
  var found = 0u;
  for (var part = 0u; part < per_word; part++) {
    let channel = u32(channels[p.channels_offset + head * p.kept + word * per_word + part]);
    found |= bits(p.k_offset + row * p.dim + min(channel, p.dim - 1u)) << (16u * part);
  }
  labels[p.labels_offset / per_word + row * row_words + word] = found;
}
