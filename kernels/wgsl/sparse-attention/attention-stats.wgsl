// Exact probabilities of a plan's cells, summed or their maximum taken by blocks. Contract: packages/sparse-attention/src/ops/attention-stats.ts.
// One invocation per block of y; it looks for its keys among the ranges and columns of every query of the block. 2 * dim operations a cell.
// Along distances, the keys of a block are others for every query.

struct Parameters {
  offsets: array<vec4u, OFFSET_WORDS>,
  // Queries first_query ... + queries of one head of one batch element; their numbers start at q_first in q, lse_first in lse and y_first in y.
  batch: u32,
  head: u32,
  first_query: u32,
  queries: u32,
  q_first: u32,
  q_stride: u32,
  heads: u32,
  dim: u32,
  kv_heads: u32,
  page_size: u32,
  pages_per_batch: u32,
  first_key_row: u32,
  key_rows: u32,
  capacity: u32,
  resume: u32,
  block_q: u32,
  block_k: u32,
  blocks_k: u32,
  maximum: u32,
  distances: u32,
  scale: f32,
  softcap: f32,
}

/* bindings */

fn score(query: u32, key: u32) -> f32 {
  let row = q_offset() + p.q_first + (query - p.first_query) * p.q_stride;
  var dot = 0.0;
  for (var channel = 0u; channel < p.dim; channel++) {
    dot += q[row + channel] * load_k(key * p.dim + channel);
  }
  let scaled = dot * p.scale;
  if (p.softcap > 0.0) {
    return p.softcap * tanh(clamp(scaled / p.softcap, -10.0, 10.0));
  }
  return scaled;
}

// Row of a key among the bound rows of k; not below p.key_rows when it is not there.
fn key_row(position: u32) -> u32 {
  let kv_head = kv_head_of(p.head);
  let at = (page_of(p.batch, position) * p.kv_heads + kv_head) * p.page_size + entry_of(position) - p.first_key_row;
  return select(at, 0xffffffffu, position >= p.capacity || kv_head >= p.kv_heads);
}

fn with_cell(before: f32, query: u32, position: u32) -> f32 {
  let key = key_row(position);
  if (key >= p.key_rows) {
    return before;
  }
  let probability = exp(score(query, key) - lse[lse_offset() + query - p.first_query]);
  if (p.maximum == 1u) {
    return max(before, probability);
  }
  return before + probability;
}

// First of the items begin ... end of a section, `stride` words each, whose word is above `least`.
fn first_above(header: u32, stride: u32, word_of: u32, least: i32, begin: u32, end: u32) -> u32 {
  var low = begin;
  var high = end;
  while (low < high) {
    let middle = (low + high) / 2u;
    if (section(header, middle * stride + word_of) > least) {
      high = middle;
    } else {
      low = middle + 1u;
    }
  }
  return low;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  let first_block = p.first_query / p.block_q;
  let block = first_block + index / p.blocks_k;
  if (block > (p.first_query + p.queries - 1u) / p.block_q) {
    return;
  }
  let block_start = i32(index % p.blocks_k * p.block_k);
  var value = 0.0;
  // Blocks whose first query is here start anew, others go on.
  if (p.resume == 1u || block * p.block_q < p.first_query) {
    value = y[y_offset() + index];
  }
  let last_query = min((block + 1u) * p.block_q, p.first_query + p.queries);
  for (var query = max(block * p.block_q, p.first_query); query < last_query; query++) {
    let row = planned(p.batch, p.head, query);
    var start = block_start;
    if (p.distances == 1u) {
      // The place in the cache, whatever positions the plan has.
      start = section(9u, p.batch) + i32(query) + 1 - block_start - i32(p.block_k);
    }
    let end = start + i32(p.block_k);
    for (var range = first_above(14u, 3u, 1u, start, row.first_range, row.end_range); range < row.end_range; range++) {
      let range_start = section(14u, 3u * range);
      if (range_start >= end) {
        break;
      }
      let flag = section(14u, 3u * range + 2u);
      let range_end = min(section(14u, 3u * range + 1u), end);
      for (var key = max(range_start, start); key < range_end; key++) {
        if (range_shows(row, flag, range_start, key)) {
          value = with_cell(value, query, u32(key));
        }
      }
    }
    for (var column = first_above(17u, 1u, 0u, start - 1, row.first_column, row.end_column); column < row.end_column; column++) {
      let key = section(17u, column);
      if (key >= end) {
        break;
      }
      if (column_shows(row, column, key)) {
        value = with_cell(value, query, u32(key));
      }
    }
  }
  y[y_offset() + index] = value;
}
