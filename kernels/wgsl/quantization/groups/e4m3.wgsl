// E4M3: the bits of a half shifted by one, whose exponent is biased by 8 more; all bits set is NaN.
fn level(code: u32) -> f32 {
  let magnitude = unpack2x16float((code & 127u) << 7u).x * 256.0;
  let value = select(magnitude, bitcast<f32>(0x7fc00000u | code), (code & 127u) == 127u);
  return select(value, -value, code >= 128u);
}
