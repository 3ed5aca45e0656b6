// Q8_0: 34 bytes per 32 weights: f16 scale, signed bytes.
const BIAS = 0;

fn load_codes(row: u32, index: u32) -> Codes {
  let at = row + index * 34u;
  return Codes(words_at(at + 2u), words_at(at + 18u), vec2f(half_at(at)), vec2f(0.0));
}
