// TQ2_0: 66 bytes per 256 weights: pairs of bits, f16 scale; level minus 1.
fn load_group(row: u32, index: u32) -> Group {
  let at = row + index / 8u * 66u;
  return Group(
    bytes(pairs_at(at, index, 0u)) - 1.0,
    bytes(pairs_at(at, index, 1u)) - 1.0,
    bytes(pairs_at(at, index, 2u)) - 1.0,
    bytes(pairs_at(at, index, 3u)) - 1.0,
    bytes(pairs_at(at, index, 4u)) - 1.0,
    bytes(pairs_at(at, index, 5u)) - 1.0,
    bytes(pairs_at(at, index, 6u)) - 1.0,
    bytes(pairs_at(at, index, 7u)) - 1.0,
    vec2f(half_at(at + 64u)),
    vec2f(0.0),
  );
}
