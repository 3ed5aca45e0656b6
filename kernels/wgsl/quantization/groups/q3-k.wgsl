// Q3_K: 110 bytes per 256 weights: 32 bytes of third bits (bit i of byte e: weight e of group i), pairs of bits, 12 bytes of 16 six-bit scales of
// 16 weights each, 32 too large, f16 scale of scales; level minus 4.
fn load_group(row: u32, index: u32) -> Group {
  let at = row + index / 8u * 110u;
  let t = index % 8u * 2u;
  return Group(
    three_bits(at, index, 0u),
    three_bits(at, index, 1u),
    three_bits(at, index, 2u),
    three_bits(at, index, 3u),
    three_bits(at, index, 4u),
    three_bits(at, index, 5u),
    three_bits(at, index, 6u),
    three_bits(at, index, 7u),
    half_at(at + 108u) * vec2f(six_bit_scale(at + 96u, t), six_bit_scale(at + 96u, t + 1u)),
    vec2f(0.0),
  );
}

fn three_bits(at: u32, index: u32, part: u32) -> vec4f {
  let third = (word_at(at + 4u * part) >> (index % 8u)) & 0x01010101u;
  return bytes(pairs_at(at + 32u, index, part) | (third << 2u)) - 4.0;
}

fn six_bit_scale(at: u32, t: u32) -> f32 {
  let low = (byte_at(at + t % 8u) >> (4u * (t / 8u))) & 15u;
  let high = (byte_at(at + 8u + t % 4u) >> (2u * (t / 4u))) & 3u;
  return f32(low | (high << 4u)) - 32.0;
}
