// INT4: four words of nibbles, the first sixteen codes low, the others high.
const BIAS = 0;
const CODE_WORDS = 4u;

fn low_codes(first: u32) -> vec4u {
  return low_nibbles(aligned_words(first));
}

fn high_codes(first: u32) -> vec4u {
  return high_nibbles(aligned_words(first));
}
