// Q2_0: 18 bytes per 64 weights: f16 scale, two bits per weight, four consecutive weights a byte; level minus 1.
fn load_group(row: u32, index: u32) -> Group {
  let at = row + index / 2u * 18u;
  let w0 = word_at(at + 2u + 8u * (index % 2u));
  let w1 = word_at(at + 6u + 8u * (index % 2u));
  return Group(
    four_of_byte(w0),
    four_of_byte(w0 >> 8u),
    four_of_byte(w0 >> 16u),
    four_of_byte(w0 >> 24u),
    four_of_byte(w1),
    four_of_byte(w1 >> 8u),
    four_of_byte(w1 >> 16u),
    four_of_byte(w1 >> 24u),
    vec2f(half_at(at)),
    vec2f(0.0),
  );
}

fn four_of_byte(byte: u32) -> vec4f {
  return vec4f((vec4u(byte) >> vec4u(0u, 2u, 4u, 6u)) & vec4u(3u)) - 1.0;
}
