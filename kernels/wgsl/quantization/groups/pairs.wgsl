// Groups of two-bit codes as Q2_K, Q3_K and TQ2_0 lay them out: group i of 256 weights has bits 2 (i % 4) of the bytes from 32 (i / 4) on.
fn pairs_at(at: u32, index: u32, part: u32) -> u32 {
  return (word_at(at + 32u * (index % 8u / 4u) + 4u * part) >> (2u * (index % 4u))) & 0x03030303u;
}
