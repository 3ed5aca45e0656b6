// TQ1_0: 54 bytes per 256 weights: 52 bytes of five (the last four: of four) ternary digits as fractions of 256, f16 scale; level minus 1.
fn load_group(row: u32, index: u32) -> Group {
  let at = row + index / 8u * 54u;
  let first = index % 8u * 32u;
  return Group(
    digits(at, first),
    digits(at, first + 4u),
    digits(at, first + 8u),
    digits(at, first + 12u),
    digits(at, first + 16u),
    digits(at, first + 20u),
    digits(at, first + 24u),
    digits(at, first + 28u),
    vec2f(half_at(at + 52u)),
    vec2f(0.0),
  );
}

// Levels of the four weights from e on, a multiple of four: they lie in four consecutive bytes at one digit.
fn digits(at: u32, e: u32) -> vec4f {
  var first = e % 32u;
  var digit = e / 32u;
  if (e >= 240u) {
    first = 48u;
    digit = (e - 240u) / 4u;
  } else if (e >= 160u) {
    first = 32u + (e - 160u) % 16u;
    digit = (e - 160u) / 16u;
  }
  let power = array<u32, 5>(1u, 3u, 9u, 27u, 81u)[digit];
  let four = (vec4u(word_at(at + first)) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u);
  return vec4f((((four * power) & vec4u(255u)) * 3u) >> vec4u(8u)) - 1.0;
}
