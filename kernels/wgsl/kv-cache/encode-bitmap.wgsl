// The numbers that are left of entries. Stands behind encode.wgsl; layout: packages/kv-cache/src/codecs/bitmap-layout.ts. One invocation writes a group of
// keys or two entries of values, whose numbers are whole words. What is kept is found bit by bit: the largest magnitude that enough numbers reach.

// Numbers that this invocation has written, and the half of a word that waits for the other.
var<private> written: u32;
var<private> waiting: u32;

fn magnitude(x: f32) -> u32 {
  return bitcast<u32>(x) & 0x7fffffffu;
}

// Magnitudes above x are kept, and the first y of those that equal it.
fn cut_of(entry: u32) -> vec2u {
  var least = 0u;
  var above = 0u;
  for (var bit = 0x40000000u; bit != 0u; bit >>= 1u) {
    var count = 0u;
    for (var channel = 0u; channel < DIM; channel++) {
      count += u32(magnitude(value(entry, channel)) >= (least | bit));
    }
    if (count >= KEPT) {
      least |= bit;
    } else {
      above = count;
    }
  }
  return vec2u(least, KEPT - above);
}

fn half_nearest(x: f32) -> u32 {
  if (is_bad(x)) {
    return NAN_HALF;
  }
  let sign = (bitcast<u32>(x) >> 16u) & 0x8000u;
  let bits = magnitude(x);
  if (bits >= 0x38800000u) {
    return sign | ((bits - 0x38000000u + 0xfffu + ((bits >> 13u) & 1u)) >> 13u);
  }
  let steps = abs(x) * 0x1p24;
  let whole = u32(steps);
  let rest = steps - floor(steps);
  return sign | (whole + u32(rest > 0.5 || (rest == 0.5 && whole % 2u == 1u)));
}

// Whether the number is kept, which it then is, as number `first + written` of the page.
fn keep_number(x: f32, cut: ptr<function, vec2u>, first: u32) -> bool {
  let own = magnitude(x);
  if (own < (*cut).x) {
    return false;
  }
  if (own == (*cut).x) {
    if ((*cut).y == 0u) {
      return false;
    }
    (*cut).y -= 1u;
  }
  let half = half_nearest(x);
  if (written % 2u == 1u) {
    coded[page + (first + written) / 2u] = waiting | (half << 16u);
  }
  waiting = half;
  written++;
  return true;
}

fn encode_pruned_keys(group: u32) {
  var cuts: array<vec2u, 32>;
  for (var own = 0u; own < 32u; own++) {
    cuts[own] = cut_of(32u * group + own);
  }
  var offset = 0u;
  for (var row = 0u; row < PADDED_ROWS; row++) {
    let which = group * PADDED_ROWS + row;
    if (row % 2u == 1u) {
      coded[page + OFFSETS_AT / 4u + which / 2u] = offset | (written << 16u);
    }
    offset = written;
    var bits = 0u;
    if (row < ROWS) {
      for (var own = 0u; own < 32u; own++) {
        var cut = cuts[own];
        if (keep_number(value(32u * group + own, row), &cut, 32u * KEPT * group)) {
          bits |= 1u << own;
        }
        cuts[own] = cut;
      }
    }
    coded[page + BITS_AT / 4u + which] = bits;
  }
}

fn encode_pruned_values(first: u32) {
  for (var row = first; row < first + 2u; row++) {
    var cut = cut_of(row);
    for (var group = 0u; group < GROUPS; group++) {
      var bits = 0u;
      for (var own = 0u; own < min(32u, COLUMNS - 32u * group); own++) {
        if (keep_number(value(row, 32u * group + own), &cut, KEPT * first)) {
          bits |= 1u << own;
        }
      }
      coded[page + BITS_AT / 4u + row * GROUPS + group] = bits;
    }
  }
}

fn encode_pruned(unit: u32) {
  written = 0u;
  if (OF_KEYS) {
    encode_pruned_keys(unit);
  } else {
    encode_pruned_values(2u * unit);
  }
}
