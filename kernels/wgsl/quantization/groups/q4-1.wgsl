// Q4_1: 20 bytes per 32 weights: f16 scale, f16 offset, nibbles as in Q4_0.
const BIAS = 0;

fn load_codes(row: u32, index: u32) -> Codes {
  let at = (row + index * 20u) / 4u;
  let pair = unpack2x16float(weights[at]);
  let nibbles = aligned_words(at + 1u);
  return Codes(low_nibbles(nibbles), high_nibbles(nibbles), vec2f(pair.x), vec2f(pair.y));
}
