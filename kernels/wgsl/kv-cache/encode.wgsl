// Pages of rows to pages of codes. Contract: packages/kv-cache/src/ops/encode.ts; layout: packages/kv-cache/src/codecs/layout.ts.
// One invocation writes whole words: kivi a chunk with its scales and zeros, int8 four entries of keys or two of values, turbo four
// entries of keys or those of a chunk of values, bitmap what encode-bitmap.wgsl says; these two stand behind. The bytes are those of the
// other backends: scales and codes are guessed with a division and corrected by comparing products, which are exact, as scales have eleven bits and
// levels and halves between codes at most eight. Where a binding does not hold the pages, a dispatch sees windows of them and leaves the rest alone.

struct Parameters {
  offsets: array<vec4u, OFFSET_WORDS>,
  // Invocations, and those of a page of a head.
  count: u32,
  units: u32,
  heads: u32,
  // First page and head that is bound, and how many.
  source_first: u32,
  source_count: u32,
  target_first: u32,
  target_count: u32,
}

/* bindings */

const LARGEST_HALF = 0x477fe000u;
const NAN_HALF = 0x7e00u;

// Where the rows of this invocation begin, in numbers, and its page, in words.
var<private> rows_at: u32;
var<private> page: u32;

fn value(entry: u32, channel: u32) -> f32 {
  return load_pages(rows_at + entry * DIM + channel);
}

// Row and column of the matrix of codes; what pads it is 0.
fn cell(row: u32, column: u32) -> f32 {
  return value(select(row, column, OF_KEYS), select(column, row, OF_KEYS));
}

fn is_bad(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > LARGEST_HALF;
}

// A positive half-precision number or 0.
fn half_value(bits: u32) -> f32 {
  if (bits < 0x400u) {
    return f32(bits) * 0x1p-24;
  }
  return bitcast<f32>((bits << 13u) + 0x38000000u);
}

// Bits of the largest half-precision number that is not above x >= 0; in y, 1 if there is something between them.
fn half_towards_zero(x: f32) -> vec2u {
  let bits = bitcast<u32>(x);
  if (bits >= 0x38800000u) {
    return vec2u((bits - 0x38000000u) >> 13u, u32((bits & 0x1fffu) != 0u));
  }
  let steps = x * 0x1p24;
  return vec2u(u32(steps), u32(floor(steps) != steps));
}

fn half_below(x: f32) -> u32 {
  if (x == 0.0) {
    return 0u;
  }
  let half = half_towards_zero(abs(x));
  return select(half.x, 0x8000u | (half.x + half.y), x < 0.0);
}

fn signed_half(bits: u32) -> f32 {
  let magnitude = half_value(bits & 0x7fffu);
  return select(magnitude, -magnitude, bits >= 0x8000u);
}

fn scale_over(range: f32, levels: f32) -> u32 {
  if (range < 0x1p-126) {
    return 0x3c00u;
  }
  var bits = max(half_towards_zero(range / levels).x, 3u) - 2u;
  while (half_value(bits) * levels < range) {
    bits++;
  }
  return bits;
}

// x / scale, half-way cases to even, at most `levels`; x >= 0.
fn nearest(x: f32, scale: f32, levels: f32) -> u32 {
  var code = max(min(floor(x / scale), levels) - 1.0, 0.0);
  while (code < levels && (code + 0.5) * scale < x) {
    code += 1.0;
  }
  let tie = (code + 0.5) * scale == x && code < levels;
  let whole = u32(code);
  return whole + select(0u, whole & 1u, tie);
}

// int8: the scale of an entry and a code of it as a byte.
fn entry_scale(entry: u32) -> u32 {
  var most = 0.0;
  var bad = false;
  for (var channel = 0u; channel < DIM; channel++) {
    let x = value(entry, channel);
    bad = bad || is_bad(x);
    most = max(most, abs(x));
  }
  if (bad) {
    return NAN_HALF;
  }
  return scale_over(most, 127.0);
}

fn byte_code(x: f32, scale: u32) -> u32 {
  if (scale == NAN_HALF) {
    return 0u;
  }
  let code = nearest(abs(x), half_value(scale), 127.0);
  return select(code, (256u - code) & 255u, x < 0.0);
}

// Four entries of keys: a word of every row.
fn encode_keys(unit: u32) {
  let column = 4u * unit;
  var scales: array<u32, 4>;
  for (var entry = 0u; entry < 4u; entry++) {
    scales[entry] = entry_scale(column + entry);
  }
  let at = page + (column / 32u * GROUP_BYTES + column % 32u) / 4u;
  for (var row = 0u; row < PADDED_ROWS; row++) {
    var word = 0u;
    if (row < ROWS) {
      for (var entry = 0u; entry < 4u; entry++) {
        word |= byte_code(cell(row, column + entry), scales[entry]) << (8u * entry);
      }
    }
    coded[at + row * 8u] = word;
  }
  let to = page + (SCALES_AT + 2u * column) / 4u;
  coded[to] = scales[0] | (scales[1] << 16u);
  coded[to + 1u] = scales[2] | (scales[3] << 16u);
}

// Two entries of values.
fn encode_values(unit: u32) {
  let first = 2u * unit;
  let scales = vec2u(entry_scale(first), entry_scale(first + 1u));
  for (var row = first; row < first + 2u; row++) {
    for (var column = 0u; column < GROUPS * 32u; column += 4u) {
      var word = 0u;
      for (var byte = 0u; byte < 4u; byte++) {
        if (column + byte < COLUMNS) {
          word |= byte_code(cell(row, column + byte), scales[row - first]) << (8u * byte);
        }
      }
      coded[page + (column / 32u * GROUP_BYTES + row * 32u + column % 32u) / 4u] = word;
    }
  }
  coded[page + (SCALES_AT + 2u * first) / 4u] = scales.x | (scales.y << 16u);
}

// kivi: a chunk of a group.
fn encode_chunk(unit: u32) {
  let per_chunk = 16u / BITS;
  let chunks = PADDED_ROWS / per_chunk;
  let column = unit / chunks * 32u;
  let columns = min(32u, COLUMNS - column);
  let first = unit % chunks * per_chunk;
  let levels = f32((1u << BITS) - 1u);
  var words: array<u32, 16>;
  // Scale and zero of the even row, which share words with those of the odd one.
  var before = vec2u();
  for (var own = 0u; own < per_chunk; own++) {
    let row = first + own;
    var halves = vec2u();
    if (row < ROWS) {
      var low = cell(row, column);
      var high = low;
      var bad = false;
      for (var index = 0u; index < columns; index++) {
        let x = cell(row, column + index);
        bad = bad || is_bad(x);
        low = min(low, x);
        high = max(high, x);
      }
      halves.x = NAN_HALF;
      if (!bad) {
        halves.y = half_below(low);
        let zero = signed_half(halves.y);
        halves.x = scale_over(high - zero, levels);
        let scale = half_value(halves.x);
        for (var index = 0u; index < columns; index++) {
          let code = nearest(cell(row, column + index) - zero, scale, levels);
          words[index % 16u] |= code << (BITS * (2u * own + index / 16u));
        }
      }
    }
    if (own % 2u == 1u) {
      let at = (2u * (column / 32u * PADDED_ROWS + row - 1u)) / 4u;
      coded[page + SCALES_AT / 4u + at] = before.x | (halves.x << 16u);
      coded[page + ZEROS_AT / 4u + at] = before.y | (halves.y << 16u);
    }
    before = halves;
  }
  let to = page + (column / 32u * GROUP_BYTES + first / per_chunk * 64u) / 4u;
  for (var word = 0u; word < 16u; word++) {
    coded[to + word] = words[word];
  }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.count) {
    return;
  }
  let item = index / p.units;
  let head = item % p.heads;
  let source = u32(sources[sources_offset() + item / p.heads]) * p.heads + head - p.source_first;
  let goal = u32(targets[targets_offset() + item / p.heads]) * p.heads + head - p.target_first;
  if (source >= p.source_count || goal >= p.target_count) {
    return;
  }
  rows_at = source * DIM * PAGE_SIZE;
  page = (coded_offset() + goal * PAGE_BYTES) / 4u;
  if (BITS == 16u) {
    encode_pruned(index % p.units);
  } else if (BITS != 8u && PER_ENTRY) {
    if (OF_KEYS) {
      encode_key_levels(index % p.units);
    } else {
      encode_value_levels(index % p.units);
    }
  } else if (BITS != 8u) {
    encode_chunk(index % p.units);
  } else if (OF_KEYS) {
    encode_keys(index % p.units);
  } else {
    encode_values(index % p.units);
  }
}
