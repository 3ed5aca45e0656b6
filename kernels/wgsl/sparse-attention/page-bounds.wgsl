// Least and greatest value of every channel over pages of keys. Contract: packages/sparse-attention/src/select/page-bounds.ts. One invocation a
// word of bounds and run of slots: that of the first slot of a run goes through it. Halves keep their bits. HALF: keys and bounds are f16; ROUNDED:
// keys are f32 and bounds bf16.

struct Parameters {
  key_min_offset: u32,
  key_max_offset: u32,
  k_offset: u32,
  slots_offset: u32,
  slots: u32,
  heads: u32,
  row_words: u32,
  // Keys of a page of bounds, pages of bounds and keys of a page of the cache.
  entries: u32,
  per_page: u32,
  page_size: u32,
  slot_count: u32,
  // Rows of bounds that this dispatch sees.
  first: u32,
  count: u32,
}

@group(0) @binding(0) var<storage, read_write> key_min: array<u32>;
@group(0) @binding(1) var<storage, read_write> key_max: array<u32>;
@group(0) @binding(2) var<storage, read> k: array<u32>;
@group(0) @binding(3) var<storage, read> slots: array<i32>;
@group(0) @binding(4) var<uniform> p: Parameters;

fn values(word: u32) -> vec2f {
  if (HALF) {
    return unpack2x16float(word);
  }
  if (ROUNDED) {
    return vec2f(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
  }
  return vec2f(bitcast<f32>(word));
}

// The bits of `a` where `take`, otherwise those of `b`.
fn choose(a: u32, b: u32, take: vec2<bool>) -> u32 {
  if (HALF || ROUNDED) {
    return select(b & 0xffffu, a & 0xffffu, take.x) | select(b & 0xffff0000u, a & 0xffff0000u, take.y);
  }
  return select(b, a, take.x);
}

// The upper half of a float that is not greater (sign 1) or not less (sign 0): the upper bits are the neighbour towards 0.
fn rounded(bits: u32, sign: u32) -> u32 {
  let number = (bits & 0x7fffffffu) <= 0x7f800000u;
  let away = number && (bits >> 31u) == sign && (bits & 0xffffu) != 0u;
  return ((bits >> 16u) + select(0u, 1u, away)) | select(0x40u, 0u, number);
}

// A word of bounds of that sign for the keys of a row.
fn bound(row: u32, word: u32, sign: u32) -> u32 {
  if (ROUNDED) {
    let at = p.k_offset + 2u * (row * p.row_words + word);
    return rounded(k[at], sign) | (rounded(k[at + 1u], sign) << 16u);
  }
  return k[p.k_offset / select(1u, 2u, HALF) + row * p.row_words + word];
}

fn page_of(slot: u32) -> u32 {
  return slot / p.entries;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  let word = index % p.row_words;
  let head = index / p.row_words % p.heads;
  let first = index / (p.row_words * p.heads);
  if (first >= p.slots) {
    return;
  }
  let slot = u32(slots[p.slots_offset + first]);
  let own = page_of(slot);
  if (slot >= p.slot_count || (first > 0u && page_of(u32(slots[p.slots_offset + first - 1u])) == own)) {
    return;
  }
  // Pages of bounds do not cross those of the cache, as they divide them.
  let row = (own / p.per_page * p.heads + head) * p.per_page + own % p.per_page - p.first;
  if (row >= p.count) {
    return;
  }
  let per_word = select(1u, 2u, HALF || ROUNDED);
  let at_min = p.key_min_offset / per_word + row * p.row_words + word;
  let at_max = p.key_max_offset / per_word + row * p.row_words + word;
  var low = key_min[at_min];
  var high = key_max[at_max];
  for (var next = first; next < p.slots; next++) {
    let entry = u32(slots[p.slots_offset + next]);
    if (page_of(entry) != own) {
      break;
    }
    let key = row * p.entries + entry % p.entries;
    let fresh = vec2<bool>(entry % p.entries == 0u);
    let below = bound(key, word, 1u);
    let above = bound(key, word, 0u);
    low = choose(below, low, (values(below) < values(low)) | fresh);
    high = choose(above, high, (values(above) > values(high)) | fresh);
  }
  key_min[at_min] = low;
  key_max[at_max] = high;
}
