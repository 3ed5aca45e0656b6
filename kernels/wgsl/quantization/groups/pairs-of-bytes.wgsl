// The pairs of bits of each byte, one a byte.
fn pairs_of_bytes(word: u32) -> vec4u {
  let each = (vec4u(word) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u);
  return (each | (each << vec4u(6u)) | (each << vec4u(12u)) | (each << vec4u(18u))) & vec4u(0x03030303u);
}
