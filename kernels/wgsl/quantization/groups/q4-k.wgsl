// Q4_K: 144 bytes per 256 weights: f16 scale of scales, f16 scale of minima, 12 bytes of eight 6-bit pairs, nibbles: bytes 32 i … hold group 2 i
// in their low nibbles and 2 i + 1 in their high ones.
const BIAS = 0;

fn load_codes(row: u32, index: u32) -> Codes {
  let at = row + index / 8u * 144u;
  let t = index % 8u;
  let pair = unpack2x16float(weights[at / 4u]);
  let six = scale_and_minimum(at + 4u, t);
  let first = at / 4u + 4u + 8u * (t >> 1u);
  let shift = vec4u(4u * (t & 1u));
  return Codes(
    low_nibbles(aligned_words(first) >> shift),
    low_nibbles(aligned_words(first + 4u) >> shift),
    vec2f(pair.x * f32(six.x)),
    vec2f(-pair.y * f32(six.y)),
  );
}
