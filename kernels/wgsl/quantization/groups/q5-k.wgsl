// Q5_K: 176 bytes per 256 weights: f16 scale of scales, f16 scale of minima, 12 bytes of eight 6-bit pairs, 32 bytes of fifth bits (bit t of byte
// e belongs to weight e of group t), nibbles as in Q4_K.
fn load_group(row: u32, index: u32) -> Group {
  let at = row + index / 8u * 176u;
  let t = index % 8u;
  let pair = unpack2x16float(weights[at / 4u]);
  let six = scale_and_minimum(at + 4u, t);
  return Group(
    five_bits(at, t, 0u),
    five_bits(at, t, 1u),
    five_bits(at, t, 2u),
    five_bits(at, t, 3u),
    five_bits(at, t, 4u),
    five_bits(at, t, 5u),
    five_bits(at, t, 6u),
    five_bits(at, t, 7u),
    vec2f(pair.x * f32(six.x)),
    vec2f(-pair.y * f32(six.y)),
  );
}

// Codes of weights 4 v … 4 v + 3 of group t.
fn five_bits(at: u32, t: u32, v: u32) -> vec4f {
  let low = weights[at / 4u + 12u + 8u * (t >> 1u) + v] >> (4u * (t & 1u));
  let high = weights[at / 4u + 4u + v] >> t;
  return bytes((low & 0x0f0f0f0fu) | ((high & 0x01010101u) << 4u));
}
