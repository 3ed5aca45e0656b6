// Q2_0: 18 bytes per 64 weights: f16 scale, two bits per weight, four consecutive weights a byte; code minus 1.
const BIAS = -1;

fn load_codes(row: u32, index: u32) -> Codes {
  let at = row + index / 2u * 18u;
  let first = at + 2u + 8u * (index % 2u);
  return Codes(pairs_of_bytes(word_at(first)), pairs_of_bytes(word_at(first + 4u)), vec2f(half_at(at)), vec2f(0.0));
}
