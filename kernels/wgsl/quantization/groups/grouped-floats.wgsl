// Groups of GROUP weights whose levels are floats: f32 scale, then codes. Behind words.wgsl and one of nf4, fp4, e4m3 and e5m2.
fn float_at(kind: u32, row: u32, k: u32) -> f32 {
  let block = row + k / GROUP * (4u + GROUP * CODE_BITS / 8u);
  return bitcast<f32>(weights[block / 4u]) * level(code_at(block + 4u, k % GROUP));
}
