// A number for every key that is added to its scores, bound like the rows of k; -inf, which shows in its bits alone, hides the key. Stands behind
// attend.wgsl.

fn bias_of(key: u32) -> f32 {
  return bias[bias_offset() + key];
}

fn hides(key: u32) -> bool {
  return bitcast<u32>(bias_of(key)) == 0xff800000u;
}
