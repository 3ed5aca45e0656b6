// The four-bit float of bitsandbytes: bit 3 is the sign.
const LEVELS = array<f32, 8>(0.0, 0.0052083335, 0.6666667, 1.0, 0.33333334, 0.5, 0.16666667, 0.25);

fn level(code: u32) -> f32 {
  return select(LEVELS[code & 7u], -LEVELS[code & 7u], (code & 8u) != 0u);
}
