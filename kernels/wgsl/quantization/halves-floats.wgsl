// Halves of a group, 16 levels or activations, as f32. Behind words.wgsl and one of groups/*.wgsl. Levels and codes of activations are integers
// below 2^24 together, so that their dots are exact.
alias Four = vec4f;
alias Half = mat4x4f;
alias Count = f32;
alias Counts = vec4f;

fn four_of_codes(codes: u32) -> Four {
  return signed_bytes(codes) + f32(BIAS);
}

fn half_of_codes(codes: vec4u) -> Half {
  return Half(four_of_codes(codes.x), four_of_codes(codes.y), four_of_codes(codes.z), four_of_codes(codes.w));
}

fn four_activations(values: vec4f) -> Four {
  return values;
}

fn dot_four(weights: Four, x: Four) -> f32 {
  return dot(weights, x);
}

fn dot_half(weights: Half, x: Half, sum: f32) -> f32 {
  return dot(weights[0], x[0]) + dot(weights[1], x[1]) + dot(weights[2], x[2]) + dot(weights[3], x[3]);
}

// Nothing: the bias is in the levels.
fn biased(dots: Counts, sums: Counts) -> vec4f {
  return dots;
}
