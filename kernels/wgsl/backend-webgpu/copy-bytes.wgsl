// `count` bytes of the result = `count` bytes of the source, at any alignment. Used for views that do not start on a word.
// One invocation owns one word of the target and keeps the bytes of it that are outside of the range. Moves 2 * count bytes.

struct Parameters {
  source_start: u32,
  result_start: u32,
  pad0: u32,
  pad1: u32,
  count: u32,
  source_extra: u32,
  result_extra: u32,
}

@group(0) @binding(0) var<storage, read> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> result: array<u32>;
@group(0) @binding(2) var<uniform> p: Parameters;

fn source_byte(at: u32) -> u32 {
  return (source[at / 4u] >> (8u * (at % 4u))) & 255u;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  let first = p.source_start + p.source_extra;
  let start = p.result_start + p.result_extra;
  let word = start / 4u + index;
  if (word * 4u >= start + p.count) {
    return;
  }
  var value = result[word];
  for (var part = 0u; part < 4u; part++) {
    let at = word * 4u + part;
    if (at >= start && at < start + p.count) {
      value = (value & ~(255u << (8u * part))) | (source_byte(first + at - start) << (8u * part));
    }
  }
  result[word] = value;
}
