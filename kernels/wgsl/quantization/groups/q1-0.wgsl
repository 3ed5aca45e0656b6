// Q1_0: 18 bytes per 128 weights: f16 scale, one bit per weight; level 1 where it is set, else −1.
fn load_group(row: u32, index: u32) -> Group {
  let at = row + index / 4u * 18u;
  let bits = word_at(at + 2u + 4u * (index % 4u));
  return Group(
    signs(bits),
    signs(bits >> 4u),
    signs(bits >> 8u),
    signs(bits >> 12u),
    signs(bits >> 16u),
    signs(bits >> 20u),
    signs(bits >> 24u),
    signs(bits >> 28u),
    vec2f(half_at(at)),
    vec2f(0.0),
  );
}

fn signs(bits: u32) -> vec4f {
  return 2.0 * vec4f((vec4u(bits) >> vec4u(0u, 1u, 2u, 3u)) & vec4u(1u)) - 1.0;
}
