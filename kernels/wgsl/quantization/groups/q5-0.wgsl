// Q5_0: 22 bytes per 32 weights: f16 scale, 32 fifth bits, nibbles as in Q4_0; code minus 16.
const BIAS = -16;

fn load_codes(row: u32, index: u32) -> Codes {
  let at = row + index * 22u;
  return five_bit_codes(words_at(at + 6u), word_at(at + 2u), half_at(at), 0.0);
}
