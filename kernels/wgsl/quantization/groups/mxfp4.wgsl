// MXFP4: 17 bytes per 32 weights: an exponent e, scale 2^(e − 128); nibbles as in Q4_0 that stand for doubled E2M1 values.
fn load_codes(row: u32, index: u32) -> Codes {
  let at = row + index * 17u;
  let e = byte_at(at);
  let bits = select((max(e, 1u) - 1u) << 23u, 0x00200000u << min(e, 1u), e < 2u);
  return table_codes(at + 1u, FP4, bitcast<f32>(bits));
}
