// IQ4_XS: 136 bytes per 256 weights: f16 scale of scales, 16 bits of the scales' upper pairs, 4 bytes of their lower nibbles, nibbles of eight
// groups; scales are 32 too large.
fn load_codes(row: u32, index: u32) -> Codes {
  let at = row + index / 8u * 136u;
  let t = index % 8u;
  let low = (byte_at(at + 4u + t / 2u) >> (4u * (t % 2u))) & 15u;
  let high = (byte_at(at + 2u + t / 4u) >> (2u * (t % 4u))) & 3u;
  return table_codes(at + 8u + 16u * t, NON_LINEAR, half_at(at) * (f32(low | (high << 4u)) - 32.0));
}
