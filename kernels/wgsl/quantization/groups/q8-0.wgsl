// Q8_0: 34 bytes per 32 weights: f16 scale, signed bytes.
fn load_group(row: u32, index: u32) -> Group {
  let at = row + index * 34u;
  return Group(
    signed_bytes(word_at(at + 2u)),
    signed_bytes(word_at(at + 6u)),
    signed_bytes(word_at(at + 10u)),
    signed_bytes(word_at(at + 14u)),
    signed_bytes(word_at(at + 18u)),
    signed_bytes(word_at(at + 22u)),
    signed_bytes(word_at(at + 26u)),
    signed_bytes(word_at(at + 30u)),
    vec2f(half_at(at)),
    vec2f(0.0),
  );
}
