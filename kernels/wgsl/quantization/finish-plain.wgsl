// The end of the quantised matmuls: 8 invocations share a row, their sums meet in workgroup memory, behind one barrier.

const LANES = 8u;

var<workgroup> partial: array<f32, PARTIALS>;

fn finish(lane: u32, first_row: u32, first_token: u32, sums: ptr<function, array<f32, TOKENS>>) {
  for (var t = 0u; t < TOKENS; t++) {
    partial[lane * TOKENS + t] = (*sums)[t];
  }
  workgroupBarrier();
  for (var result = lane; result < 8u * TOKENS; result += 64u) {
    let row = result / TOKENS;
    let token = first_token + result % TOKENS;
    if (first_row + row < p.rows && token < p.tokens) {
      var sum = 0.0;
      for (var part = 0u; part < 8u; part++) {
        sum += partial[(row * 8u + part) * TOKENS + result % TOKENS];
      }
      write_result(token, p.first_row + first_row + row, sum);
    }
  }
}
