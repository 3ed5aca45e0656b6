// INT8: bytes, 128 above the code.
const BIAS = 0;
const CODE_WORDS = 8u;

fn low_codes(first: u32) -> vec4u {
  return aligned_words(first) ^ vec4u(0x80808080u);
}

fn high_codes(first: u32) -> vec4u {
  return aligned_words(first + 4u) ^ vec4u(0x80808080u);
}
