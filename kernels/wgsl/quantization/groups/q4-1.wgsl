// Q4_1: 20 bytes per 32 weights: f16 scale, f16 offset, nibbles as in Q4_0.
fn load_group(row: u32, index: u32) -> Group {
  let at = (row + index * 20u) / 4u;
  let pair = unpack2x16float(weights[at]);
  let w0 = weights[at + 1u];
  let w1 = weights[at + 2u];
  let w2 = weights[at + 3u];
  let w3 = weights[at + 4u];
  return Group(
    low_nibbles(w0),
    low_nibbles(w1),
    low_nibbles(w2),
    low_nibbles(w3),
    high_nibbles(w0),
    high_nibbles(w1),
    high_nibbles(w2),
    high_nibbles(w3),
    vec2f(pair.x),
    vec2f(pair.y),
  );
}
