// NVFP4: 36 bytes per 64 weights: four unsigned E4M3 scales of 16 weights each, then 8 bytes for each: low nibbles its first half, high ones its
// second; levels are doubled E2M1 values.
fn load_group(row: u32, index: u32) -> Group {
  let at = row + index / 2u * 36u;
  let sub = index % 2u * 2u;
  let w0 = word_at(at + 4u + 8u * sub);
  let w1 = word_at(at + 8u + 8u * sub);
  let w2 = word_at(at + 12u + 8u * sub);
  let w3 = word_at(at + 16u + 8u * sub);
  return Group(
    table_levels(w0, FP4),
    table_levels(w1, FP4),
    table_levels(w0 >> 4u, FP4),
    table_levels(w1 >> 4u, FP4),
    table_levels(w2, FP4),
    table_levels(w3, FP4),
    table_levels(w2 >> 4u, FP4),
    table_levels(w3 >> 4u, FP4),
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
