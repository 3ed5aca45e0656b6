// Q5_1: 24 bytes per 32 weights: f16 scale, f16 offset, 32 fifth bits, nibbles as in Q4_0.
fn load_group(row: u32, index: u32) -> Group {
  let at = (row + index * 24u) / 4u;
  let pair = unpack2x16float(weights[at]);
  let fifth = weights[at + 1u];
  let w0 = weights[at + 2u];
  let w1 = weights[at + 3u];
  let w2 = weights[at + 4u];
  let w3 = weights[at + 5u];
  return Group(
    low_nibbles(w0) + above(fifth),
    low_nibbles(w1) + above(fifth >> 4u),
    low_nibbles(w2) + above(fifth >> 8u),
    low_nibbles(w3) + above(fifth >> 12u),
    high_nibbles(w0) + above(fifth >> 16u),
    high_nibbles(w1) + above(fifth >> 20u),
    high_nibbles(w2) + above(fifth >> 24u),
    high_nibbles(w3) + above(fifth >> 28u),
    vec2f(pair.x),
    vec2f(pair.y),
  );
}

// What the fifth bits of four weights add to the code.
fn above(word: u32) -> vec4f {
  return 16.0 * vec4f((vec4u(word) >> vec4u(0u, 1u, 2u, 3u)) & vec4u(1u));
}
