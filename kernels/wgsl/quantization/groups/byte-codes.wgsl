const CODE_BITS = 8u;

fn code_at(first: u32, e: u32) -> u32 {
  return byte_at(first + e);
}
