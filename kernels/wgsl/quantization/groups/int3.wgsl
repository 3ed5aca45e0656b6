// INT3: two words of the lower two bits of sixteen codes as in INT2, and one of the third bits.
const BIAS = 0;
const CODE_WORDS = 3u;

fn low_codes(first: u32) -> vec4u {
  return pairs_of_bytes(weights[first]) | (spread_bits(vec4u(weights[first + 2u]) >> vec4u(0u, 4u, 8u, 12u)) << vec4u(2u));
}

fn high_codes(first: u32) -> vec4u {
  return pairs_of_bytes(weights[first + 1u]) | (spread_bits(vec4u(weights[first + 2u]) >> vec4u(16u, 20u, 24u, 28u)) << vec4u(2u));
}
