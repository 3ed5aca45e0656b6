// Unit `unit` of a row for dequantize-rows.wgsl: one element. Behind floats.wgsl.
fn write_unit(row: u32, unit: u32, to: u32) {
  y[to] = float_at(p.kind, row, unit);
}
