// What the attention executors share: one query row against single keys, online softmax in f32. Included behind an executor's module.

const NONE = -1e30;

struct Row {
  batch: u32,
  head: u32,
  query: u32,
  // Index of the row in q and o, in rows; and in lse.
  at: u32,
}

fn row_of(index: u32) -> Row {
  var row: Row;
  row.query = index % p.length_q;
  row.head = index / p.length_q % p.heads;
  row.batch = index / (p.length_q * p.heads);
  row.at = select((row.batch * p.length_q + row.query) * p.heads + row.head, index, p.heads_first == 1u);
  return row;
}

struct State {
  largest: f32,
  sum: f32,
}

var<private> state: State;
var<private> output: array<f32, DIMS>;

fn see_key(row: Row, position: u32) {
  let kv_head = row.head / (p.heads / p.kv_heads);
  let key_row = (page_of(row.batch, position) * p.kv_heads + kv_head) * p.page_size + entry_of(position);
  var dot = 0.0;
  for (var channel = 0u; channel < p.dim; channel++) {
    dot += q[q_offset() + row.at * p.dim + channel] * load_k(key_row * p.dim + channel);
  }
  var score = dot * p.scale;
  if (p.softcap > 0.0) {
    score = p.softcap * tanh(clamp(score / p.softcap, -10.0, 10.0));
  }
  let largest = max(state.largest, score);
  let alpha = exp(state.largest - largest);
  let probability = exp(score - largest);
  state.sum = state.sum * alpha + probability;
  state.largest = largest;
  for (var channel = 0u; channel < p.value_dim; channel++) {
    output[channel] = output[channel] * alpha + probability * load_v(key_row * p.value_dim + channel);
  }
}

fn begin_row() {
  state.largest = NONE;
  state.sum = 0.0;
  for (var channel = 0u; channel < p.value_dim; channel++) {
    output[channel] = 0.0;
  }
}

// -inf as a bit pattern: constant expressions must be finite.
fn negative_infinity() -> f32 {
  var bits = 0xff800000u;
  return bitcast<f32>(bits);
}

fn end_row(row: Row, index: u32) {
  let inverse = select(0.0, 1.0 / state.sum, state.sum > 0.0);
  for (var channel = 0u; channel < p.value_dim; channel++) {
    o[o_offset() + row.at * p.value_dim + channel] = output[channel] * inverse;
  }
  lse[lse_offset() + index] = select(negative_infinity(), state.largest + log(state.sum), state.sum > 0.0);
}
