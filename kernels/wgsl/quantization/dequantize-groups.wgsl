// Unit `unit` of a row for dequantize-rows.wgsl: 32 weights. Behind words.wgsl and one of groups/*.wgsl.
fn write_unit(row: u32, unit: u32, to: u32) {
  let group = load_codes(row, unit);
  for (var part = 0u; part < 4u; part++) {
    let low = group.scale.x * (signed_bytes(group.low[part]) + f32(BIAS)) + group.offset.x;
    let high = group.scale.y * (signed_bytes(group.high[part]) + f32(BIAS)) + group.offset.y;
    for (var e = 0u; e < 4u; e++) {
      y[to + 4u * part + e] = low[e];
      y[to + 16u + 4u * part + e] = high[e];
    }
  }
}
