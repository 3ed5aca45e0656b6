// Codes of two bits as Q2_K, Q3_K and TQ2_0 lay them out: group i of 256 weights has bits 2 (i % 4) of the bytes from 32 (i / 4) on.
fn pairs_at(at: u32, index: u32, half: u32) -> vec4u {
  return (words_at(at + 32u * (index % 8u / 4u) + 16u * half) >> vec4u(2u * (index % 4u))) & vec4u(0x03030303u);
}
