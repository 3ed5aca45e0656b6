// Q5_0: 22 bytes per 32 weights: f16 scale, 32 fifth bits, nibbles as in Q4_0; level minus 16.
fn load_group(row: u32, index: u32) -> Group {
  let at = row + index * 22u;
  let fifth = word_at(at + 2u);
  let w0 = word_at(at + 6u);
  let w1 = word_at(at + 10u);
  let w2 = word_at(at + 14u);
  let w3 = word_at(at + 18u);
  return Group(
    low_nibbles(w0) + above(fifth),
    low_nibbles(w1) + above(fifth >> 4u),
    low_nibbles(w2) + above(fifth >> 8u),
    low_nibbles(w3) + above(fifth >> 12u),
    high_nibbles(w0) + above(fifth >> 16u),
    high_nibbles(w1) + above(fifth >> 20u),
    high_nibbles(w2) + above(fifth >> 24u),
    high_nibbles(w3) + above(fifth >> 28u),
    vec2f(half_at(at)),
    vec2f(0.0),
  );
}

// What the fifth bits of four weights add to the level: 0 where set, -16 where not.
fn above(word: u32) -> vec4f {
  return 16.0 * vec4f((vec4u(word) >> vec4u(0u, 1u, 2u, 3u)) & vec4u(1u)) - 16.0;
}
