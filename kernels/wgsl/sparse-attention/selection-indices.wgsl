// Bits to key lists. Contract: packages/sparse-attention/src/select/selection-indices.ts.
// One workgroup a row, a run of words a lane: counted first, written behind what the lanes before have, one barrier.

struct Parameters {
  offsets: array<vec4u, OFFSET_WORDS>,
  first: u32,
  count: u32,
  rows: u32,
  rows_per_element: u32,
  words: u32,
  unit: u32,
  slots: u32,
  length_k: u32,
}

/* bindings */

var<workgroup> keys_of_lanes: array<u32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.y * groups.x + group.x;
  if (index >= p.count) {
    return;
  }
  let element = (p.first + index) / p.rows_per_element;
  let query = (p.first + index) % p.rows;
  var lengths_of = vec2u(p.rows, p.length_k);
  if (has_lengths) {
    lengths_of = vec2u(u32(max(0, lengths_at(2u * element))), u32(max(0, lengths_at(2u * element + 1u))));
  }
  var limit = 0u;
  if (query < lengths_of.x) {
    limit = u32(max(0, i32(lengths_of.y) - i32(lengths_of.x) + i32(query) + 1));
  }
  let each = (p.words + 63u) / 64u;
  let begin = 32u * min(p.words, lane * each);
  let end = 32u * min(p.words, lane * each + each);
  var own = 0u;
  for (var bit = begin; bit < end; bit++) {
    if (((bits_at(index * p.words + bit / 32u) >> (bit % 32u)) & 1u) == 1u) {
      own += min(limit, bit * p.unit + p.unit) - min(limit, bit * p.unit);
    }
  }
  keys_of_lanes[lane] = own;
  workgroupBarrier();
  var at = 0u;
  var total = 0u;
  for (var other = 0u; other < 64u; other++) {
    at += select(0u, keys_of_lanes[other], other < lane);
    total += keys_of_lanes[other];
  }
  let out = indices_offset() + index * p.slots;
  for (var bit = begin; bit < end && at < p.slots; bit++) {
    if (((bits_at(index * p.words + bit / 32u) >> (bit % 32u)) & 1u) == 1u) {
      for (var key = bit * p.unit; key < min(limit, bit * p.unit + p.unit) && at < p.slots; key++) {
        indices[out + at] = i32(key);
        at++;
      }
    }
  }
  for (var slot = total + lane; slot < p.slots; slot += 64u) {
    indices[out + slot] = -1;
  }
  if (lane == 0u) {
    cells[cells_offset() + index] = f32(min(total, p.slots));
  }
}
