// Q4_0: 18 bytes per 32 weights: f16 scale, 16 bytes of which the low nibbles are weights 0 … 15 and the high ones 16 … 31; code minus 8.
const BIAS = -8;

fn load_codes(row: u32, index: u32) -> Codes {
  let at = row + index * 18u;
  let nibbles = words_at(at + 2u);
  return Codes(low_nibbles(nibbles), high_nibbles(nibbles), vec2f(half_at(at)), vec2f(0.0));
}
