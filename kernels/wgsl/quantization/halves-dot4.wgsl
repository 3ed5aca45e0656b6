// Halves of a group, 16 codes of weights or activations, as signed bytes in words. Behind words.wgsl and one of groups/*.wgsl. Dots are integers,
// 16 * 128 * 128 at most; the bias of the weights' codes is added as BIAS times the sum of the activations'.
alias Four = u32;
alias Half = vec4u;
alias Count = i32;
alias Counts = vec4i;

fn four_of_codes(codes: u32) -> Four {
  return codes;
}

fn half_of_codes(codes: vec4u) -> Half {
  return codes;
}

fn four_activations(values: vec4f) -> Four {
  return pack4xI8(vec4i(values));
}

fn dot_four(weights: Four, x: Four) -> i32 {
  return dot4I8Packed(weights, x);
}

fn dot_half(weights: Half, x: Half, sum: i32) -> f32 {
  let dots = dot4I8Packed(weights[0], x[0]) + dot4I8Packed(weights[1], x[1]) + dot4I8Packed(weights[2], x[2]) + dot4I8Packed(weights[3], x[3]);
  return f32(dots + BIAS * sum);
}

fn biased(dots: Counts, sums: Counts) -> vec4f {
  return vec4f(dots + BIAS * sums);
}
