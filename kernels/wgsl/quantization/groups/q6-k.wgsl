// Q6_K: 210 bytes per 256 weights: 128 bytes of low nibbles, 64 of high pairs of bits, 16 signed scales of 16 weights each, f16 scale of scales;
// level minus 32.
fn load_group(row: u32, index: u32) -> Group {
  let at = row + index / 8u * 210u;
  let h = index % 8u / 4u;
  let j = index % 4u;
  let low = at + 64u * h + 32u * (j & 1u);
  let high = at + 128u + 32u * h;
  let scales = at + 192u + index % 8u * 2u;
  return Group(
    six_bits(low, high, j),
    six_bits(low + 4u, high + 4u, j),
    six_bits(low + 8u, high + 8u, j),
    six_bits(low + 12u, high + 12u, j),
    six_bits(low + 16u, high + 16u, j),
    six_bits(low + 20u, high + 20u, j),
    six_bits(low + 24u, high + 24u, j),
    six_bits(low + 28u, high + 28u, j),
    half_at(at + 208u) * vec2f(signed_byte_at(scales), signed_byte_at(scales + 1u)),
    vec2f(0.0),
  );
}

fn six_bits(low: u32, high: u32, j: u32) -> vec4f {
  let nibbles = (word_at(low) >> (4u * (j >> 1u))) & 0x0f0f0f0fu;
  let pairs = (word_at(high) >> (2u * j)) & 0x03030303u;
  return bytes(nibbles | (pairs << 4u)) - 32.0;
}
