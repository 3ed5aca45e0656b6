// Per 32 codes sixteen bytes, the first half low, the second high.
const CODE_BITS = 4u;

fn code_at(first: u32, e: u32) -> u32 {
  return (byte_at(first + e / 32u * 16u + e % 16u) >> (e / 16u % 2u * 4u)) & 15u;
}
