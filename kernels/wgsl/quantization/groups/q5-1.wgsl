// Q5_1: 24 bytes per 32 weights: f16 scale, f16 offset, 32 fifth bits, nibbles as in Q4_0.
fn load_group(row: u32, index: u32) -> Group {
  let at = (row + index * 24u) / 4u;
  let pair = unpack2x16float(weights[at]);
  let nibbles = vec4u(weights[at + 2u], weights[at + 3u], weights[at + 4u], weights[at + 5u]);
  return five_bit_group(nibbles, weights[at + 1u], 0.0, pair.x, pair.y);
}
