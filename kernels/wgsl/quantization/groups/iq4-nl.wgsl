// IQ4_NL: 18 bytes per 32 weights, as Q4_0 but with levels from a table.
fn load_group(row: u32, index: u32) -> Group {
  let at = row + index * 18u;
  return table_group(at + 2u, NON_LINEAR, half_at(at));
}
