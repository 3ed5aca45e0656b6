// The end of the quantised matmuls: 4 invocations share a row, the size of the smallest subgroup there is; their sums meet by shuffles, without
// a barrier.

const LANES = 4u;

fn finish(lane: u32, first_row: u32, first_token: u32, sums: ptr<function, array<f32, TOKENS>>) {
  let row = first_row + lane / 4u;
  for (var t = 0u; t < TOKENS; t++) {
    let pair = (*sums)[t] + subgroupShuffleXor((*sums)[t], 1u);
    let sum = pair + subgroupShuffleXor(pair, 2u);
    let token = first_token + t;
    if (lane % 4u == t % 4u && row < p.rows && token < p.tokens) {
      write_result(token, p.first_row + row, sum);
    }
  }
}
