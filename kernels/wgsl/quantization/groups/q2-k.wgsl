// Q2_K: 84 bytes per 256 weights: 16 bytes of a four-bit scale (low) and minimum (high) of 16 weights each, pairs of bits, f16 scale of scales,
// f16 scale of minima.
const BIAS = 0;

fn load_codes(row: u32, index: u32) -> Codes {
  let at = row + index / 8u * 84u;
  let both = vec2u(byte_at(at + index % 8u * 2u), byte_at(at + index % 8u * 2u + 1u));
  return Codes(
    pairs_at(at + 16u, index, 0u),
    pairs_at(at + 16u, index, 1u),
    half_at(at + 80u) * vec2f(both & vec2u(15u)),
    -half_at(at + 82u) * vec2f(both >> vec2u(4u)),
  );
}
