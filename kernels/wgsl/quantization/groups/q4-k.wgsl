// Q4_K: 144 bytes per 256 weights: f16 scale of scales, f16 scale of minima, 12 bytes of eight 6-bit pairs, nibbles: bytes 32 i … hold group 2 i
// in their low nibbles and 2 i + 1 in their high ones.
fn load_group(row: u32, index: u32) -> Group {
  let at = row + index / 8u * 144u;
  let t = index % 8u;
  let pair = unpack2x16float(weights[at / 4u]);
  let six = scale_and_minimum(at + 4u, t);
  let first = at / 4u + 4u + 8u * (t >> 1u);
  let shift = 4u * (t & 1u);
  return Group(
    low_nibbles(weights[first] >> shift),
    low_nibbles(weights[first + 1u] >> shift),
    low_nibbles(weights[first + 2u] >> shift),
    low_nibbles(weights[first + 3u] >> shift),
    low_nibbles(weights[first + 4u] >> shift),
    low_nibbles(weights[first + 5u] >> shift),
    low_nibbles(weights[first + 6u] >> shift),
    low_nibbles(weights[first + 7u] >> shift),
    vec2f(pair.x * f32(six.x)),
    vec2f(-pair.y * f32(six.y)),
  );
}
