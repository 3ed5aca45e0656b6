// IQ4_NL: 18 bytes per 32 weights, as Q4_0 but with levels from a table.
fn load_codes(row: u32, index: u32) -> Codes {
  let at = row + index * 18u;
  return table_codes(at + 2u, NON_LINEAR, half_at(at));
}
