// INT2: two words of sixteen codes, four consecutive ones a byte.
const BIAS = 0;
const CODE_WORDS = 2u;

fn low_codes(first: u32) -> vec4u {
  return pairs_of_bytes(weights[first]);
}

fn high_codes(first: u32) -> vec4u {
  return pairs_of_bytes(weights[first + 1u]);
}
