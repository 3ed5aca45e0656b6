// Element k of a row of f32 (kind 0), f16 (1) or bf16 that begins at byte `row` of the weights. Behind words.wgsl.
fn float_at(kind: u32, row: u32, k: u32) -> f32 {
  switch kind {
    case 0u: { return bitcast<f32>(weights[row / 4u + k]); }
    case 1u: { return half_at(row + 2u * k); }
    default: {
      let at = row + 2u * k;
      return bitcast<f32>(((weights[at / 4u] >> (8u * (at % 4u))) & 0xffffu) << 16u);
    }
  }
}
