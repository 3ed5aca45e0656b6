// What the attention executors share: online softmax in f32 over the keys of one query row. Included behind an executor's module, which declares
// the bindings, `p`, and how its arguments are read; tiles.wgsl or untiled.wgsl stand behind it and say which scores count,
// biased.wgsl or unbiased.wgsl what is added to them.
//
// Two ways through the keys. `rows`: one invocation a query row, keys one by one; neighbouring invocations are neighbouring queries of one head
// and read the same keys at the same time. `split`: one workgroup a query row, 64 keys at a time, two barriers each; for few queries, decoding.
// Where a binding does not hold the keys, a dispatch sees a window of their rows and goes on from the result of the one before it.

const NONE = -1e30;

// Whether q, k, v and the weights of the values are rounded to bfloat16. Scores are then exponents of two and the largest one is the next
// integer: what weights are relative to has no part in how they round.
const BF16 = ROUNDED;
const LOG2_E = 1.4426950408889634;
const LN_2 = 0.6931471805599453;

fn number(x: f32) -> f32 {
  if (!BF16) {
    return x;
  }
  let bits = bitcast<u32>(x);
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u || magnitude == 0u) {
    return x;
  }
  return bitcast<f32>((bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u);
}

// What a score is raised to: x <= 0.
fn weight(x: f32) -> f32 {
  if (BF16) {
    return number(exp2(x));
  }
  return exp(x);
}

fn next_largest(largest: f32) -> f32 {
  if (BF16) {
    return ceil(largest);
  }
  return largest;
}

struct Row {
  batch: u32,
  head: u32,
  query: u32,
  // Elements at which the row starts in q and o, and its place in lse.
  q_at: u32,
  o_at: u32,
  lse_at: u32,
}

// Row `index` of the dispatch. q and o come from row p.first on; queries run fastest, so that neighbours share a head.
fn row_of(index: u32) -> Row {
  var row: Row;
  var at = p.first + index;
  if (p.heads_first == 1u) {
    row.query = at % p.length_q;
    row.head = at / p.length_q % p.heads;
    row.batch = at / (p.length_q * p.heads);
  } else {
    row.query = p.first / p.heads % p.length_q + index % p.queries;
    row.head = index / p.queries % p.heads;
    row.batch = p.first / (p.heads * p.length_q) + index / (p.queries * p.heads);
    at = (row.batch * p.length_q + row.query) * p.heads + row.head;
  }
  row.q_at = q_offset() + (at - p.first) * p.dim;
  row.o_at = o_offset() + (at - p.first) * p.value_dim;
  row.lse_at = lse_offset() + (row.batch * p.heads + row.head) * p.length_q + row.query - p.lse_first;
  return row;
}

// Row of a key among the bound rows of k and v; not below p.key_rows when it is not there, or a bias of -inf hides it.
fn key_row(row: Row, position: u32) -> u32 {
  let kv_head = kv_head_of(row.head);
  let at = (page_of(row.batch, position) * p.kv_heads + kv_head) * p.page_size + entry_of(position) - p.first_key_row;
  let absent = position >= p.capacity || kv_head >= p.kv_heads || at >= p.key_rows;
  return select(at, 0xffffffffu, absent || hides(select(at, 0u, absent)));
}

fn score(row: Row, key: u32) -> f32 {
  var dot = 0.0;
  for (var channel = 0u; channel < p.dim; channel++) {
    dot += number(q[row.q_at + channel]) * number(load_k(key * p.dim + channel));
  }
  var scaled = dot * p.scale;
  if (p.softcap > 0.0) {
    scaled = p.softcap * tanh(clamp(scaled / p.softcap, -10.0, 10.0));
  }
  scaled += bias_of(key);
  if (BF16) {
    return scaled * LOG2_E;
  }
  return scaled;
}

struct State {
  largest: f32,
  sum: f32,
}

// -inf as a bit pattern: constant expressions must be finite.
fn negative_infinity() -> f32 {
  var bits = 0xff800000u;
  return bitcast<f32>(bits);
}

fn begin(row: Row) -> State {
  if (p.resume == 1u) {
    let before = lse[row.lse_at];
    if (before > NONE) {
      if (BF16) {
        let largest = ceil(before * LOG2_E);
        return State(largest, exp2(before * LOG2_E - largest));
      }
      return State(before, 1.0);
    }
  }
  return State(NONE, 0.0);
}

fn log_sum(state: State) -> f32 {
  let largest = select(state.largest, state.largest * LN_2, BF16);
  return select(negative_infinity(), largest + log(state.sum), state.sum > 0.0);
}

// ---- rows: one invocation a query row

var<private> output: array<f32, CHANNELS>;
var<private> state: State;

fn begin_row(row: Row) {
  state = begin(row);
  for (var channel = 0u; channel < p.value_dim; channel++) {
    output[channel] = select(0.0, o[row.o_at + channel] * state.sum, p.resume == 1u);
  }
}

fn add_key(own: f32, key: u32) {
  let largest = next_largest(max(state.largest, own));
  let alpha = weight(state.largest - largest);
  let probability = weight(own - largest);
  state.sum = state.sum * alpha + probability;
  state.largest = largest;
  for (var channel = 0u; channel < p.value_dim; channel++) {
    output[channel] = output[channel] * alpha + probability * number(load_v(key * p.value_dim + channel));
  }
}

fn see_key(row: Row, position: u32) {
  let key = key_row(row, position);
  if (key < p.key_rows) {
    add_key(score(row, key), key);
  }
}

fn end_row(row: Row) {
  let inverse = select(0.0, 1.0 / state.sum, state.sum > 0.0);
  for (var channel = 0u; channel < p.value_dim; channel++) {
    o[row.o_at + channel] = output[channel] * inverse;
  }
  lse[row.lse_at] = log_sum(state);
}

// ---- split: one workgroup a query row; every invocation keeps the same state and every 64th channel of the result

var<workgroup> scores: array<f32, 64>;
var<workgroup> probabilities: array<f32, 64>;
var<workgroup> keys: array<u32, 64>;
var<private> channels: array<f32, CHANNELS_PER_LANE>;

fn begin_split(row: Row, lane: u32) {
  state = begin(row);
  for (var part = 0u; part < CHANNELS_PER_LANE; part++) {
    let channel = lane + 64u * part;
    channels[part] = 0.0;
    if (p.resume == 1u && channel < p.value_dim) {
      channels[part] = o[row.o_at + channel] * state.sum;
    }
  }
}

// 64 keys at once: this invocation's own one, if it is visible.
fn see_keys(row: Row, lane: u32, position: u32, visible: bool) {
  var own = NONE;
  var key = 0xffffffffu;
  if (visible) {
    key = key_row(row, position);
  }
  if (key < p.key_rows) {
    own = score(row, key);
  }
  scores[lane] = own;
  workgroupBarrier();
  let kept = keeps(lane, position) && key < p.key_rows;
  var most = NONE;
  for (var other = 0u; other < 64u; other++) {
    most = max(most, scores[other]);
  }
  let out = leaves_out(most);
  let largest = select(next_largest(max(state.largest, most)), state.largest, out);
  probabilities[lane] = select(0.0, weight(own - largest), kept && !out);
  keys[lane] = key;
  workgroupBarrier();
  let alpha = weight(state.largest - largest);
  var sum = state.sum * alpha;
  for (var part = 0u; part < CHANNELS_PER_LANE; part++) {
    channels[part] *= alpha;
  }
  for (var other = 0u; other < 64u; other++) {
    let probability = probabilities[other];
    if (probability > 0.0) {
      sum += probability;
      for (var part = 0u; part < CHANNELS_PER_LANE; part++) {
        let channel = lane + 64u * part;
        if (channel < p.value_dim) {
          channels[part] += probability * number(load_v(keys[other] * p.value_dim + channel));
        }
      }
    }
  }
  // What is read here is written next behind the first barrier of the next 64 keys, and `scores` before it, which nobody reads any more.
  state = State(largest, sum);
}

fn end_split(row: Row, lane: u32) {
  let inverse = select(0.0, 1.0 / state.sum, state.sum > 0.0);
  for (var part = 0u; part < CHANNELS_PER_LANE; part++) {
    let channel = lane + 64u * part;
    if (channel < p.value_dim) {
      o[row.o_at + channel] = channels[part] * inverse;
    }
  }
  if (lane == 0u) {
    lse[row.lse_at] = log_sum(state);
  }
}
