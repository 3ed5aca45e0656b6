// Sums and maxima over the 64 invocations of a workgroup, through workgroup memory; every invocation gets the result. Two barriers each.

var<workgroup> partial: array<f32, 64>;

fn workgroup_sum(value: f32, lane: u32) -> f32 {
  partial[lane] = value;
  workgroupBarrier();
  var total = 0.0;
  for (var index = 0u; index < 64u; index++) {
    total += partial[index];
  }
  workgroupBarrier();
  return total;
}

fn workgroup_max(value: f32, lane: u32) -> f32 {
  partial[lane] = value;
  workgroupBarrier();
  var largest = partial[0];
  for (var index = 1u; index < 64u; index++) {
    largest = max(largest, partial[index]);
  }
  workgroupBarrier();
  return largest;
}
