// Q5_0: 22 bytes per 32 weights: f16 scale, 32 fifth bits, nibbles as in Q4_0; level minus 16.
fn load_group(row: u32, index: u32) -> Group {
  let at = row + index * 22u;
  let nibbles = vec4u(word_at(at + 6u), word_at(at + 10u), word_at(at + 14u), word_at(at + 18u));
  return five_bit_group(nibbles, word_at(at + 2u), -16.0, half_at(at), 0.0);
}
