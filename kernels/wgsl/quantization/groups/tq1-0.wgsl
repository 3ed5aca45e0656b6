// TQ1_0: 54 bytes per 256 weights: 52 bytes of five (the last four: of four) ternary digits as fractions of 256, f16 scale; code minus 1.
const BIAS = -1;

fn load_codes(row: u32, index: u32) -> Codes {
  let at = row + index / 8u * 54u;
  let e = index % 8u * 32u;
  return Codes(
    vec4u(digits(at, e), digits(at, e + 4u), digits(at, e + 8u), digits(at, e + 12u)),
    vec4u(digits(at, e + 16u), digits(at, e + 20u), digits(at, e + 24u), digits(at, e + 28u)),
    vec2f(half_at(at + 52u)),
    vec2f(0.0),
  );
}

// Codes of the four weights from e on, a multiple of four: they lie in four consecutive bytes at one digit.
fn digits(at: u32, e: u32) -> u32 {
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
  let word = word_at(at + first);
  return two_digits(word & 0x00ff00ffu, power) | (two_digits((word >> 8u) & 0x00ff00ffu, power) << 8u);
}

// Of the bytes at bits 0 and 16.
fn two_digits(bytes: u32, power: u32) -> u32 {
  return ((((bytes * power) & 0x00ff00ffu) * 3u) >> 8u) & 0x00ff00ffu;
}
