// Q1_0: 18 bytes per 128 weights: f16 scale, one bit per weight; 1 where it is set, else −1.
const BIAS = -1;

fn load_codes(row: u32, index: u32) -> Codes {
  let at = row + index / 4u * 18u;
  let bits = vec4u(word_at(at + 2u + 4u * (index % 4u)));
  return Codes(
    spread_bits(bits >> vec4u(0u, 4u, 8u, 12u)) << vec4u(1u),
    spread_bits(bits >> vec4u(16u, 20u, 24u, 28u)) << vec4u(1u),
    vec2f(half_at(at)),
    vec2f(0.0),
  );
}
