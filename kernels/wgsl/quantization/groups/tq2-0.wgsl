// TQ2_0: 66 bytes per 256 weights: pairs of bits, f16 scale; code minus 1.
const BIAS = -1;

fn load_codes(row: u32, index: u32) -> Codes {
  let at = row + index / 8u * 66u;
  return Codes(pairs_at(at, index, 0u), pairs_at(at, index, 1u), vec2f(half_at(at + 64u)), vec2f(0.0));
}
