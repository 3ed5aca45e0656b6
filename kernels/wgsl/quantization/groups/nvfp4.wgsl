// NVFP4: 36 bytes per 64 weights: four unsigned E4M3 scales of 16 weights each, then 8 bytes for each: low nibbles its first half, high ones its
// second; levels are doubled E2M1 values.
fn load_codes(row: u32, index: u32) -> Codes {
  let at = row + index / 2u * 36u;
  let sub = index % 2u * 2u;
  let nibbles = words_at(at + 4u + 8u * sub);
  let high = nibbles >> vec4u(4u);
  return Codes(
    levels(vec4u(nibbles.xy, high.xy), FP4),
    levels(vec4u(nibbles.zw, high.zw), FP4),
    0.5 * vec2f(unsigned_e4m3(byte_at(at + sub)), unsigned_e4m3(byte_at(at + sub + 1u))),
    vec2f(0.0),
  );
}

// 0x7f stands for 0.
fn unsigned_e4m3(byte: u32) -> f32 {
  let mantissa = f32(byte & 7u);
  let exponent = (byte >> 3u) & 15u;
  let normal = (1.0 + mantissa / 8.0) * bitcast<f32>((exponent + 120u) << 23u);
  return select(select(normal, mantissa / 512.0, exponent == 0u), 0.0, byte == 127u);
}
