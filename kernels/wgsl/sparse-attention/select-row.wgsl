// The best entries of every list, exactly. Contract: packages/sparse-attention/src/select/select-row.ts.
// One workgroup a list. Nothing is sorted: the score at which the order is cut is found two bits at a time, by counting (or adding) what is not below
// three candidates: 16 passes over the list, one barrier each, and as many again for topP.

struct Parameters {
  offsets: array<vec4u, OFFSET_WORDS>,
  first_list: u32,
  lists: u32,
  lists_per_head: u32,
  heads: u32,
  rows: u32,
  columns: u32,
  words: u32,
  block_q: u32,
  block_k: u32,
  budget_lists: u32,
  least_lists: u32,
  top_k: i32,
  min: u32,
  max: i32,
  sinks: u32,
  local: u32,
  has_share: u32,
  has_top_p: u32,
  has_threshold: u32,
  top_share: f32,
  top_p: f32,
  threshold: f32,
}

/* bindings */

// Queries and keys of the list's batch element, and its first row of all rows of the head.
var<private> lengths_of: vec2i;
var<private> first_row: u32;
var<private> members: u32;
// Where the list's scores and bits start.
var<private> scores_base: u32;
var<private> bits_base: u32;

// Key blocks that some query of a row block may see.
fn visible(row: u32) -> u32 {
  let start = i32((first_row + row) * p.block_q);
  if (start >= lengths_of.x) {
    return 0u;
  }
  let last = lengths_of.y - lengths_of.x + min(start + i32(p.block_q), lengths_of.x) - 1;
  if (last < 0) {
    return 0u;
  }
  return min(p.columns, u32(last) / p.block_k + 1u);
}

fn forced(column: u32, seen: u32) -> bool {
  return column < p.sinks || column + p.local >= seen;
}

// Words that compare as the scores do: NaN below everything, both zeros the same.
fn order(score: f32) -> u32 {
  let bits = bitcast<u32>(score);
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    return 0u;
  }
  if (magnitude == 0u) {
    return 0x80000000u;
  }
  return select(bits | 0x80000000u, ~bits, bits >> 31u == 1u);
}

fn mass(score: f32) -> f32 {
  return select(0.0, score, score > 0.0);
}

// Two halves that take turns, so that one barrier between writing and reading is enough.
var<workgroup> counts_of_lanes: array<vec3u, 128>;
var<workgroup> masses_of_lanes: array<vec3f, 128>;
var<private> turn: u32 = 0u;

struct Sums {
  counts: vec3u,
  masses: vec3f,
}

fn reduce(lane: u32, own: Sums) -> Sums {
  let half = 64u * (turn % 2u);
  turn++;
  counts_of_lanes[half + lane] = own.counts;
  masses_of_lanes[half + lane] = own.masses;
  workgroupBarrier();
  var sums = Sums(vec3u(), vec3f());
  for (var other = 0u; other < 64u; other++) {
    sums.counts += counts_of_lanes[half + other];
    sums.masses += masses_of_lanes[half + other];
  }
  return sums;
}

// What of the entries that are not forced is at or above three orders.
fn above(lane: u32, candidates: vec3u) -> Sums {
  var own = Sums(vec3u(), vec3f());
  for (var row = 0u; row < members; row++) {
    let seen = visible(row);
    for (var column = lane; column < seen; column += 64u) {
      if (!forced(column, seen)) {
        let score = scores_at(scores_base + row * p.columns + column);
        let is_above = vec3u(order(score)) >= candidates;
        own.counts += select(vec3u(), vec3u(1u), is_above);
        own.masses += select(vec3f(), vec3f(mass(score)), is_above);
      }
    }
  }
  return reduce(lane, own);
}

// The greatest order whose entries at or above reach a count, or a mass.
fn cut(lane: u32, count: u32, by_mass: bool, wanted: f32) -> u32 {
  var found = 0u;
  for (var shift = 30u; shift < 32u; shift -= 2u) {
    let candidates = vec3u(found) + (vec3u(1u, 2u, 3u) << vec3u(shift));
    let sums = above(lane, candidates);
    var enough = sums.counts >= vec3u(count);
    if (by_mass) {
      enough = sums.masses >= vec3f(wanted);
    }
    if (enough.z) {
      found = candidates.z;
    } else if (enough.y) {
      found = candidates.y;
    } else if (enough.x) {
      found = candidates.x;
    }
  }
  return found;
}

// Entries until the sum of what is forced and of the best others reaches a share of all. Barriers do not depend on what is found.
fn shortest(lane: u32, first: f32, others: f32, forced_count: u32) -> u32 {
  let wanted = p.top_p * (first + others);
  let at = cut(lane, 0u, true, wanted - first);
  let level = above(lane, vec3u(at, next_order(at), 0xffffffffu));
  if (first >= wanted) {
    return forced_count;
  }
  let same = level.counts.x - level.counts.y;
  let each = (level.masses.x - level.masses.y) / f32(max(same, 1u));
  var needed = same;
  if (each > 0.0) {
    needed = min(same, u32(ceil((wanted - first - level.masses.y) / each)));
  }
  return forced_count + level.counts.y + needed;
}

// No score has the greatest order, so that nothing is at or above what follows the last one.
fn next_order(order: u32) -> u32 {
  return select(order + 1u, order, order == 0xffffffffu);
}

fn list_of(given: u32, list: u32) -> u32 {
  return list / p.lists_per_head * given + select(list % p.lists_per_head, 0u, given == 1u);
}

fn whole(value: f32) -> u32 {
  return select(0u, u32(min(value, 2e9)), value > 0.0);
}

// How many entries the limits leave, the forced ones included.
fn limited(lane: u32, list: u32) -> vec2u {
  // Forced entries and their mass; entries at the threshold; everything else.
  var own = Sums(vec3u(), vec3f());
  var key_blocks = 0u;
  for (var row = 0u; row < members; row++) {
    let seen = visible(row);
    if (seen > 0u) {
      key_blocks += (u32(lengths_of.y) + p.block_k - 1u) / p.block_k;
    }
    for (var column = lane; column < seen; column += 64u) {
      let score = scores_at(scores_base + row * p.columns + column);
      if (forced(column, seen)) {
        own.counts.x++;
        own.masses.x += mass(score);
      } else {
        own.counts.y++;
        own.masses.y += mass(score);
        own.counts.z += select(0u, 1u, score >= p.threshold);
      }
    }
  }
  let sums = reduce(lane, own);
  let forced_count = sums.counts.x;
  let entries = forced_count + sums.counts.y;
  var count = entries;
  if (has_budget) {
    count = min(count, whole(budget_at(list_of(p.budget_lists, list))));
  } else if (p.top_k >= 0) {
    count = min(count, u32(p.top_k));
  }
  if (p.has_share == 1u) {
    count = min(count, u32(p.top_share * f32(key_blocks)));
  }
  if (p.has_top_p == 1u) {
    count = min(count, shortest(lane, sums.masses.x, sums.masses.y, forced_count));
  }
  if (p.has_threshold == 1u) {
    count = min(count, forced_count + sums.counts.z);
  }
  count = max(count, p.min);
  if (has_least) {
    count = max(count, whole(least_at(list_of(p.least_lists, list))));
  }
  if (p.max >= 0) {
    count = min(count, u32(p.max));
  }
  return vec2u(clamp(count, forced_count, entries) - forced_count, entries - forced_count);
}

var<workgroup> ties_before: array<u32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.y * groups.x + group.x;
  if (index >= p.lists) {
    return;
  }
  let list = p.first_list + index;
  members = p.rows / p.lists_per_head;
  first_row = list % p.lists_per_head * members;
  scores_base = index * members * p.columns;
  bits_base = bits_offset() + index * members * p.words;
  lengths_of = vec2i(vec2u(p.rows * p.block_q, p.columns * p.block_k));
  if (has_lengths) {
    let element = list / (p.lists_per_head * p.heads);
    lengths_of = vec2i(lengths_at(2u * element), lengths_at(2u * element + 1u));
  }
  let taken = limited(lane, list);
  let at = cut(lane, max(1u, taken.x), false, 0.0);
  let ties = taken.x - min(taken.x, above(lane, vec3u(next_order(at))).counts.x);
  let all = taken.x == taken.y;
  // Every lane has words of its own that follow each other, so that ties are counted in order.
  let words = members * p.words;
  let each = (words + 63u) / 64u;
  let begin = min(words, lane * each);
  let end = min(words, begin + each);
  var own_ties = 0u;
  if (taken.x > 0u && !all) {
    for (var word = begin; word < end; word++) {
      let row = word / p.words;
      let seen = visible(row);
      for (var column = 32u * (word % p.words); column < min(seen, 32u * (word % p.words) + 32u); column++) {
        if (!forced(column, seen) && order(scores_at(scores_base + row * p.columns + column)) == at) {
          own_ties++;
        }
      }
    }
  }
  ties_before[lane] = own_ties;
  workgroupBarrier();
  var tie = 0u;
  for (var other = 0u; other < lane; other++) {
    tie += ties_before[other];
  }
  for (var word = begin; word < end; word++) {
    let row = word / p.words;
    let seen = visible(row);
    var bits_of_word = 0u;
    for (var column = 32u * (word % p.words); column < min(seen, 32u * (word % p.words) + 32u); column++) {
      var chosen = all || forced(column, seen);
      if (!chosen && taken.x > 0u) {
        let own = order(scores_at(scores_base + row * p.columns + column));
        chosen = own > at;
        if (own == at) {
          chosen = tie < ties;
          tie++;
        }
      }
      bits_of_word |= select(0u, 1u << (column % 32u), chosen);
    }
    bits[bits_base + word] = bits_of_word;
  }
  storageBarrier();
  for (var row = lane; row < members; row += 64u) {
    var count = 0u;
    for (var word = 0u; word < p.words; word++) {
      count += countOneBits(bits[bits_base + row * p.words + word]);
    }
    counts[counts_offset() + index * members + row] = i32(count);
  }
}
