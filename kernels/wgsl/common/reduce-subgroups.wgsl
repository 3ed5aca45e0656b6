enable subgroups;

// Sums and maxima over the 64 invocations of a workgroup: first within subgroups, then over the few results of those. Invocations are taken to
// be numbered subgroup by subgroup; the self-test of every op that uses this notices a device where they are not.

var<workgroup> partial: array<f32, 64>;

fn workgroup_sum(value: f32, lane: u32) -> f32 {
  let lanes = subgroupAdd(1u);
  let own = subgroupAdd(value);
  if (lane % lanes == 0u) {
    partial[lane / lanes] = own;
  }
  workgroupBarrier();
  var total = 0.0;
  for (var index = 0u; index < 64u / lanes; index++) {
    total += partial[index];
  }
  workgroupBarrier();
  return total;
}

fn workgroup_max(value: f32, lane: u32) -> f32 {
  let lanes = subgroupAdd(1u);
  let own = subgroupMax(value);
  if (lane % lanes == 0u) {
    partial[lane / lanes] = own;
  }
  workgroupBarrier();
  var largest = partial[0];
  for (var index = 1u; index < 64u / lanes; index++) {
    largest = max(largest, partial[index]);
  }
  workgroupBarrier();
  return largest;
}
