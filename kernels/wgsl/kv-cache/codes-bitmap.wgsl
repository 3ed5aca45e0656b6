// A number of a pruned page of one side: 0 unless its bit says that it was kept. Layout: packages/kv-cache/src/codecs/bitmap-layout.ts. Included once per
// side in place of codes.wgsl, with its name for SIDE and the numbers of its layout for the words in capitals.

fn bits_of_SIDE(base: u32, row: u32, group: u32) -> u32 {
  return SIDE[base + BITS_AT / 4u + select(row * GROUPS + group, group * PADDED_ROWS + row, OF_KEYS)];
}

// Numbers of the page that come before the group of a row.
fn before_SIDE(base: u32, row: u32, group: u32) -> u32 {
  if (OF_KEYS) {
    let which = group * PADDED_ROWS + row;
    return group * 32u * KEPT + extractBits(SIDE[base + OFFSETS_AT / 4u + which / 2u], 16u * (which % 2u), 16u);
  }
  var before = row * KEPT;
  for (var other = 0u; other < group; other++) {
    before += countOneBits(bits_of_SIDE(base, row, other));
  }
  return before;
}

fn number_of_SIDE(block: u32, row: u32, column: u32) -> f32 {
  let base = (SIDE_offset() + block * PAGE_BYTES) / 4u;
  let group = column / 32u;
  let bits = bits_of_SIDE(base, row, group);
  let own = 1u << (column % 32u);
  if ((bits & own) == 0u) {
    return 0.0;
  }
  let at = before_SIDE(base, row, group) + countOneBits(bits & (own - 1u));
  return unpack2x16float(SIDE[base + at / 2u])[at % 2u];
}
