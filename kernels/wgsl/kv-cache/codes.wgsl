// A number of a coded page of one side, dequantised in registers. Layout: packages/kv-cache/src/codecs/layout.ts. Included once per side, with its
// name for SIDE and the numbers of its layout for the words in capitals, of which BITS 8 means int8 and PER_ENTRY else levels.

const LEVELS_SIDE = LEVEL_VALUES;

fn half_of_SIDE(base: u32, byte: u32) -> f32 {
  return unpack2x16float(SIDE[base + byte / 4u])[byte / 2u % 2u];
}

// The code at (row, column) of page and head `block` of those that are bound, times its scale, from its zero.
fn number_of_SIDE(block: u32, row: u32, column: u32) -> f32 {
  let base = (SIDE_offset() + block * PAGE_BYTES) / 4u;
  let group = column / 32u;
  let own = column % 32u;
  if (BITS == 8u) {
    let byte = group * GROUP_BYTES + row * 32u + own;
    let code = extractBits(bitcast<i32>(SIDE[base + byte / 4u]), 8u * (byte % 4u), 8u);
    return f32(code) * half_of_SIDE(base, SCALES_AT + 2u * select(row, column, OF_KEYS));
  }
  let per_chunk = 16u / BITS;
  let bit = BITS * (2u * (row % per_chunk) + own / 16u);
  let code = extractBits(SIDE[base + group * GROUP_BYTES / 4u + row / per_chunk * 16u + own % 16u], bit, BITS);
  if (PER_ENTRY) {
    return LEVELS_SIDE[code] * half_of_SIDE(base, SCALES_AT + 2u * select(row, column, OF_KEYS));
  }
  let which = 2u * (group * PADDED_ROWS + row);
  return f32(code) * half_of_SIDE(base, SCALES_AT + which) + half_of_SIDE(base, ZEROS_AT + which);
}
