// target[row, start + i] = source[row, i]. Contract: packages/core-tensor/src/ops/write-slice.ts.
// One invocation owns one word of the target and rewrites the elements of it that lie in the slice.

struct Parameters {
  target_words_offset: u32,
  source_offset: u32,
  pad0: u32,
  pad1: u32,
  count: u32,
  elements: u32,
  width: u32,
  part_width: u32,
  start: u32,
  size: u32,
  // First element of what is bound of the target and of the source.
  first: u32,
  source_first: u32,
}

@group(0) @binding(0) var<storage, read_write> target_words: array<u32>;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<uniform> p: Parameters;

// Elements of 1, 2 or 4 bytes inside words; offsets count elements.
fn load_element(at: u32) -> u32 {
  let per_word = 4u / p.size;
  let word = source[at / per_word];
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
  let at_word = p.target_words_offset / per_word + index;
  var word = target_words[at_word];
  var changed = false;
  for (var part = 0u; part < per_word; part++) {
    let element = index * per_word + part;
    let at = p.first + element;
    let column = at % p.width;
    if (element < p.elements && column >= p.start && column < p.start + p.part_width) {
      let value = load_element(p.source_offset + at / p.width * p.part_width + column - p.start - p.source_first);
      let shift = 8u * p.size * part;
      word = (word & ~(mask << shift)) | (value << shift);
      changed = true;
    }
  }
  if (changed) {
    target_words[at_word] = word;
  }
}
