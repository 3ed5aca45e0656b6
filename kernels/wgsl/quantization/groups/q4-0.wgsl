// Q4_0: 18 bytes per 32 weights: f16 scale, 16 bytes of which the low nibbles are weights 0 … 15 and the high ones 16 … 31; level minus 8.
fn load_group(row: u32, index: u32) -> Group {
  let at = row + index * 18u;
  let w0 = word_at(at + 2u);
  let w1 = word_at(at + 6u);
  let w2 = word_at(at + 10u);
  let w3 = word_at(at + 14u);
  return Group(
    low_nibbles(w0) - 8.0,
    low_nibbles(w1) - 8.0,
    low_nibbles(w2) - 8.0,
    low_nibbles(w3) - 8.0,
    high_nibbles(w0) - 8.0,
    high_nibbles(w1) - 8.0,
    high_nibbles(w2) - 8.0,
    high_nibbles(w3) - 8.0,
    vec2f(half_at(at)),
    vec2f(0.0),
  );
}
