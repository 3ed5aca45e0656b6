// Q6_K: 210 bytes per 256 weights: 128 bytes of low nibbles, 64 of high pairs of bits, 16 signed scales of 16 weights each, f16 scale of scales;
// code minus 32.
const BIAS = -32;

fn load_codes(row: u32, index: u32) -> Codes {
  let at = row + index / 8u * 210u;
  let h = index % 8u / 4u;
  let j = index % 4u;
  let low = at + 64u * h + 32u * (j & 1u);
  let high = at + 128u + 32u * h;
  let scales = at + 192u + index % 8u * 2u;
  return Codes(
    six_bits(low, high, j),
    six_bits(low + 16u, high + 16u, j),
    half_at(at + 208u) * vec2f(signed_byte_at(scales), signed_byte_at(scales + 1u)),
    vec2f(0.0),
  );
}

fn six_bits(low: u32, high: u32, j: u32) -> vec4u {
  let pairs = (words_at(high) >> vec4u(2u * j)) & vec4u(0x03030303u);
  return low_nibbles(words_at(low) >> vec4u(4u * (j >> 1u))) | (pairs << vec4u(4u));
}
