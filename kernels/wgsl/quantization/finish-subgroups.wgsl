// Sums of a team by shuffles as far as its subgroups reach, whatever their size. Behind finish-partials.wgsl. Invocations are taken to be numbered
// subgroup by subgroup; the self-test notices a device where they are not.
fn finish(lane: u32, first_row: u32, first_token: u32, sums: ptr<function, array<f32, SUMS>>) {
  let reach = min(LANES, subgroupAdd(1u));
  for (var own = 0u; own < SUMS; own++) {
    var sum = (*sums)[own];
    for (var mask = 1u; mask < LANES; mask <<= 1u) {
      // Beyond the subgroup the value is anything.
      let other = subgroupShuffleXor(sum, mask);
      sum += select(0.0, other, mask < reach);
    }
    if (lane % reach == 0u) {
      partial[own * 64u + lane / reach] = sum;
    }
  }
  workgroupBarrier();
  add_partials(lane, LANES / reach, first_row, first_token);
}
