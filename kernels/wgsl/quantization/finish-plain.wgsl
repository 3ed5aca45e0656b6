// Sums of a team where there are no subgroups. Behind finish-partials.wgsl.
fn finish(lane: u32, first_row: u32, first_token: u32, sums: ptr<function, array<f32, SUMS>>) {
  for (var own = 0u; own < SUMS; own++) {
    partial[own * 64u + lane] = (*sums)[own];
  }
  workgroupBarrier();
  add_partials(lane, LANES, first_row, first_token);
}
