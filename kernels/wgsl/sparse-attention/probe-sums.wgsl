// Exact softmax of the last rows, summed by key and by distance. Contract: packages/sparse-attention/src/select/probe-sums.ts.
// Three passes, each of which makes the scores anew: maximum and sum of every row (one workgroup a row, one barrier), then one invocation a key, then one
// a distance. 6 * rows * keys * dim operations a head, and nothing is added up by two invocations at once.

struct Parameters {
  offsets: array<vec4u, OFFSET_WORDS>,
  count: u32,
  heads: u32,
  kv_heads: u32,
  length_q: u32,
  dim: u32,
  page_size: u32,
  pages_per_batch: u32,
  capacity: u32,
  length_k: u32,
  rows: u32,
  heads_first: u32,
  scale: f32,
  softcap: f32,
}

/* bindings */

const NONE = -1e30;

// The last queries of a head: how many, which the first one is, and its position.
struct Probe {
  element: u32,
  head: u32,
  kv_head: u32,
  count: u32,
  first: u32,
  position: i32,
  length_k: u32,
}

fn probe_of(column: u32) -> Probe {
  var probe: Probe;
  probe.element = column / p.heads;
  probe.head = column % p.heads;
  probe.kv_head = probe.head * p.kv_heads / p.heads;
  if (has_kvMap) {
    probe.kv_head = u32(clamp(kvMap_at(probe.head), 0, i32(p.kv_heads) - 1));
  }
  var queries = p.length_q;
  probe.length_k = p.length_k;
  if (has_lengths) {
    queries = min(queries, u32(max(0, lengths_at(2u * probe.element))));
    probe.length_k = min(p.capacity, u32(max(0, lengths_at(2u * probe.element + 1u))));
  }
  probe.count = min(p.rows, queries);
  probe.first = queries - probe.count;
  probe.position = i32(probe.length_k) - i32(probe.count);
  return probe;
}

fn score(probe: Probe, row: u32, key: u32) -> f32 {
  let query = probe.first + row;
  let heads_first = (probe.element * p.heads + probe.head) * p.length_q + query;
  let queries_first = (probe.element * p.length_q + query) * p.heads + probe.head;
  let q_row = select(queries_first, heads_first, p.heads_first == 1u) * p.dim;
  var page = probe.element;
  if (has_table) {
    page = u32(table_at(probe.element * p.pages_per_batch + key / p.page_size));
  }
  let k_row = ((page * p.kv_heads + probe.kv_head) * p.page_size + key % p.page_size) * p.dim;
  var dot = 0.0;
  for (var channel = 0u; channel < p.dim; channel++) {
    dot += q_at(q_row + channel) * k_at(k_row + channel);
  }
  let scaled = dot * p.scale;
  if (p.softcap > 0.0) {
    return p.softcap * tanh(clamp(scaled / p.softcap, -10.0, 10.0));
  }
  return scaled;
}

// Place of a row's maximum and sum.
fn stats_at(column: u32, row: u32) -> u32 {
  return scratch_offset() + 2u * (column * p.rows + row);
}

fn probability(probe: Probe, column: u32, row: u32, key: u32) -> f32 {
  let at = stats_at(column, row);
  return exp(score(probe, row, key) - scratch[at]) / scratch[at + 1u];
}

var<workgroup> tops: array<f32, 64>;
var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn statistics(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.y * groups.x + group.x;
  if (index >= p.count) {
    return;
  }
  let column = index / p.rows;
  let row = index % p.rows;
  let probe = probe_of(column);
  var end = 0;
  if (row < probe.count) {
    end = max(0, probe.position + i32(row) + 1);
  }
  var largest = NONE;
  var sum = 0.0;
  for (var key = i32(lane); key < end; key += 64) {
    let own = score(probe, row, u32(key));
    let top = max(largest, own);
    sum = sum * exp(largest - top) + exp(own - top);
    largest = top;
  }
  tops[lane] = largest;
  sums[lane] = sum;
  workgroupBarrier();
  if (lane > 0u) {
    return;
  }
  for (var other = 0u; other < 64u; other++) {
    largest = max(largest, tops[other]);
  }
  sum = 0.0;
  for (var other = 0u; other < 64u; other++) {
    sum += sums[other] * exp(tops[other] - largest);
  }
  scratch[stats_at(column, row)] = largest;
  scratch[stats_at(column, row) + 1u] = sum;
}

@compute @workgroup_size(64)
fn by_key(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.count) {
    return;
  }
  let column = index / p.capacity;
  let key = index % p.capacity;
  let probe = probe_of(column);
  var sum = 0.0;
  if (key < probe.length_k) {
    // Rows from the first one on that sees the key.
    for (var row = u32(max(0, i32(key) - probe.position)); row < probe.count; row++) {
      sum += probability(probe, column, row, key);
    }
  }
  columns[columns_offset() + index] = sum;
}

@compute @workgroup_size(64)
fn by_distance(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.count) {
    return;
  }
  let column = index / p.capacity;
  let distance = i32(index % p.capacity);
  let probe = probe_of(column);
  var sum = 0.0;
  for (var row = u32(max(0, distance - probe.position)); row < probe.count; row++) {
    sum += probability(probe, column, row, u32(probe.position + i32(row) - distance));
  }
  diagonals[diagonals_offset() + index] = sum;
}
