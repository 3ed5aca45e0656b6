// Q3_K: 110 bytes per 256 weights: 32 bytes of third bits (bit i of byte e: weight e of group i), pairs of bits, 12 bytes of 16 six-bit scales of
// 16 weights each, 32 too large, f16 scale of scales; code minus 4.
const BIAS = -4;

fn load_codes(row: u32, index: u32) -> Codes {
  let at = row + index / 8u * 110u;
  let t = index % 8u * 2u;
  return Codes(
    three_bits(at, index, 0u),
    three_bits(at, index, 1u),
    half_at(at + 108u) * vec2f(six_bit_scale(at + 96u, t), six_bit_scale(at + 96u, t + 1u)),
    vec2f(0.0),
  );
}

fn three_bits(at: u32, index: u32, half: u32) -> vec4u {
  let third = (words_at(at + 16u * half) >> vec4u(index % 8u)) & vec4u(0x01010101u);
  return pairs_at(at + 32u, index, half) | (third << vec4u(2u));
}

fn six_bit_scale(at: u32, t: u32) -> f32 {
  let low = (byte_at(at + t % 8u) >> (4u * (t / 8u))) & 15u;
  let high = (byte_at(at + 8u + t % 4u) >> (2u * (t / 4u))) & 3u;
  return f32(low | (high << 4u)) - 32.0;
}
