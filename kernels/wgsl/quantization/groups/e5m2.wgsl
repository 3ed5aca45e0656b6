// E5M2: the upper byte of a half.
fn level(code: u32) -> f32 {
  return unpack2x16float(code << 8u).x;
}
