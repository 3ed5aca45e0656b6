// Scores as queries and keys make them. Stands behind attend.wgsl.

fn bias_of(key: u32) -> f32 {
  return 0.0;
}

fn hides(key: u32) -> bool {
  return false;
}
