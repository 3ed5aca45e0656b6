// Q5_K: 176 bytes per 256 weights: f16 scale of scales, f16 scale of minima, 12 bytes of eight 6-bit pairs, 32 bytes of fifth bits (bit t of byte
// e belongs to weight e of group t), nibbles as in Q4_K.
const BIAS = 0;

fn load_codes(row: u32, index: u32) -> Codes {
  let at = row + index / 8u * 176u;
  let t = index % 8u;
  let pair = unpack2x16float(weights[at / 4u]);
  let six = scale_and_minimum(at + 4u, t);
  return Codes(five_bits(at / 4u, t, 0u), five_bits(at / 4u, t, 4u), vec2f(pair.x * f32(six.x)), vec2f(-pair.y * f32(six.y)));
}

// Codes of group t in words v … v + 3.
fn five_bits(block: u32, t: u32, v: u32) -> vec4u {
  let nibbles = low_nibbles(aligned_words(block + 12u + 8u * (t >> 1u) + v) >> vec4u(4u * (t & 1u)));
  let fifth = (aligned_words(block + 4u + v) >> vec4u(t)) & vec4u(0x01010101u);
  return nibbles | (fifth << vec4u(4u));
}
