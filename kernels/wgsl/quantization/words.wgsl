// Words, halves and bytes at any byte of the weights, and codes in words. The module that includes this declares `weights: array<u32>`.

fn word_at(at: u32) -> u32 {
  let shift = 8u * (at % 4u);
  let low = weights[at / 4u];
  if (shift == 0u) {
    return low;
  }
  return (low >> shift) | (weights[at / 4u + 1u] << (32u - shift));
}

// 16 bytes from byte `at` on.
fn words_at(at: u32) -> vec4u {
  let shift = 8u * (at % 4u);
  let low = aligned_words(at / 4u);
  if (shift == 0u) {
    return low;
  }
  return (low >> vec4u(shift)) | (vec4u(low.yzw, weights[at / 4u + 4u]) << vec4u(32u - shift));
}

// Four words from word `first` on.
fn aligned_words(first: u32) -> vec4u {
  return vec4u(weights[first], weights[first + 1u], weights[first + 2u], weights[first + 3u]);
}

// Two bytes at an even address.
fn half_at(at: u32) -> f32 {
  return unpack2x16float((weights[at / 4u] >> (8u * (at % 4u))) & 0xffffu).x;
}

fn byte_at(at: u32) -> u32 {
  return (weights[at / 4u] >> (8u * (at % 4u))) & 255u;
}

fn signed_byte_at(at: u32) -> f32 {
  return f32(bitcast<i32>(byte_at(at) << 24u) >> 24u);
}

fn low_nibbles(words: vec4u) -> vec4u {
  return words & vec4u(0x0f0f0f0fu);
}

fn high_nibbles(words: vec4u) -> vec4u {
  return (words >> vec4u(4u)) & vec4u(0x0f0f0f0fu);
}

// The lowest four bits of each, one a byte.
fn spread_bits(bits: vec4u) -> vec4u {
  return ((bits & vec4u(15u)) * 0x00204081u) & vec4u(0x01010101u);
}

// The four bytes of a word.
fn signed_bytes(word: u32) -> vec4f {
  return vec4f(bitcast<vec4i>(vec4u(word) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u));
}

// 32 weights as signed bytes, four a word: `low` has weights 0 … 15 and `high` 16 … 31. weight = scale * (code + BIAS) + offset, scale and offset
// per half, BIAS a constant of the type; code + BIAS is a signed byte too. Vectors and not arrays: arrays with a running index lie in memory.
struct Codes {
  low: vec4u,
  high: vec4u,
  scale: vec2f,
  offset: vec2f,
}
