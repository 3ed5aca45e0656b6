// Unit `unit` of a row for dequantize-rows.wgsl: 32 weights. Behind words.wgsl and one of groups/*.wgsl.
fn write_unit(row: u32, unit: u32, to: u32) {
  let group = load_group(row, unit);
  let low = array<vec4f, 4>(group.l0, group.l1, group.l2, group.l3);
  let high = array<vec4f, 4>(group.h0, group.h1, group.h2, group.h3);
  for (var part = 0u; part < 4u; part++) {
    for (var e = 0u; e < 4u; e++) {
      y[to + 4u * part + e] = group.scale.x * low[part][e] + group.offset.x;
      y[to + 16u + 4u * part + e] = group.scale.y * high[part][e] + group.offset.y;
    }
  }
}
