// Groups of Q5_0 and Q5_1: nibbles in the order of Q4_0 and a word of fifth bits.
fn five_bit_group(nibbles: vec4u, fifth: u32, bias: f32, scale: f32, offset: f32) -> Group {
  return Group(
    low_nibbles(nibbles.x) + above(fifth, bias),
    low_nibbles(nibbles.y) + above(fifth >> 4u, bias),
    low_nibbles(nibbles.z) + above(fifth >> 8u, bias),
    low_nibbles(nibbles.w) + above(fifth >> 12u, bias),
    high_nibbles(nibbles.x) + above(fifth >> 16u, bias),
    high_nibbles(nibbles.y) + above(fifth >> 20u, bias),
    high_nibbles(nibbles.z) + above(fifth >> 24u, bias),
    high_nibbles(nibbles.w) + above(fifth >> 28u, bias),
    vec2f(scale),
    vec2f(offset),
  );
}

// What the fifth bits of four weights add to their nibbles, and the bias of the level.
fn above(word: u32, bias: f32) -> vec4f {
  return 16.0 * vec4f((vec4u(word) >> vec4u(0u, 1u, 2u, 3u)) & vec4u(1u)) + bias;
}
