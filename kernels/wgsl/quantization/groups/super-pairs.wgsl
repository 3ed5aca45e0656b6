// Six-bit scale (x) and minimum (y) t of a Q4_K or Q5_K super-block whose 12 scale bytes start at byte `at`.
fn scale_and_minimum(at: u32, t: u32) -> vec2u {
  if (t < 4u) {
    return vec2u(byte_at(at + t) & 63u, byte_at(at + t + 4u) & 63u);
  }
  let low = byte_at(at + t + 4u);
  return vec2u((low & 15u) | ((byte_at(at + t - 4u) >> 6u) << 4u), (low >> 4u) | ((byte_at(at + t) >> 6u) << 4u));
}
