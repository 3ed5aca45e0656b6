// Q5_1: 24 bytes per 32 weights: f16 scale, f16 offset, 32 fifth bits, nibbles as in Q4_0.
const BIAS = 0;

fn load_codes(row: u32, index: u32) -> Codes {
  let at = (row + index * 24u) / 4u;
  let pair = unpack2x16float(weights[at]);
  return five_bit_codes(aligned_words(at + 2u), weights[at + 1u], pair.x, pair.y);
}
