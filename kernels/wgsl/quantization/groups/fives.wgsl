// Groups of Q5_0 and Q5_1: nibbles in the order of Q4_0 and a word of fifth bits.
fn five_bit_codes(nibbles: vec4u, fifth: u32, scale: f32, offset: f32) -> Codes {
  let low = spread_bits(vec4u(fifth) >> vec4u(0u, 4u, 8u, 12u));
  let high = spread_bits(vec4u(fifth) >> vec4u(16u, 20u, 24u, 28u));
  return Codes(
    low_nibbles(nibbles) | (low << vec4u(4u)),
    high_nibbles(nibbles) | (high << vec4u(4u)),
    vec2f(scale),
    vec2f(offset),
  );
}
