// Words and halves at any byte of the weights. The module that includes this declares `weights: array<u32>`.

fn word_at(at: u32) -> u32 {
  let shift = 8u * (at % 4u);
  let low = weights[at / 4u];
  if (shift == 0u) {
    return low;
  }
  return (low >> shift) | (weights[at / 4u + 1u] << (32u - shift));
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

// The four bytes of a word.
fn bytes(word: u32) -> vec4f {
  return vec4f((vec4u(word) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u));
}

fn low_nibbles(word: u32) -> vec4f {
  return bytes(word & 0x0f0f0f0fu);
}

fn high_nibbles(word: u32) -> vec4f {
  return bytes((word >> 4u) & 0x0f0f0f0fu);
}

fn signed_bytes(word: u32) -> vec4f {
  return vec4f(bitcast<vec4i>(vec4u(word) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u));
}

// 32 weights in eight vectors, of which l0 … l3 are the low half and h0 … h3 the high one: weight = scale * level + offset, each per half. Fields
// and not an array: arrays with a running index lie in memory.
struct Group {
  l0: vec4f,
  l1: vec4f,
  l2: vec4f,
  l3: vec4f,
  h0: vec4f,
  h1: vec4f,
  h2: vec4f,
  h3: vec4f,
  scale: vec2f,
  offset: vec2f,
}
