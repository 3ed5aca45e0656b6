// The end of the quantised matmuls: a team of LANES invocations has ROWS rows times TOKENS tokens, and SUMS sums of an invocation are theirs, row by
// row. What is left of a team's sums is added in workgroup memory.

// [sum][part]: parts of a team one behind the other.
var<workgroup> partial: array<f32, PARTIALS>;

fn add_partials(lane: u32, parts: u32, first_row: u32, first_token: u32) {
  for (var result = lane; result < 64u / LANES * SUMS; result += 64u) {
    let team = result / SUMS;
    let own = result % SUMS;
    let row = first_row + team * ROWS + own / TOKENS;
    let token = first_token + own % TOKENS;
    if (row < p.rows && token < p.tokens) {
      var sum = 0.0;
      for (var part = 0u; part < parts; part++) {
        sum += partial[own * 64u + team * parts + part];
      }
      write_result(token, p.first_row + row, sum);
    }
  }
}
