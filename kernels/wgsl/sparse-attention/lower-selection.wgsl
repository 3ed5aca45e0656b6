// Bits of a selection to the packed plan of executors. Contract: packages/sparse-attention/src/select/lower-selection.ts.
// `head` writes the header and what belongs to heads and batch elements; `rows` has an invocation for every row block, which goes through its keys from
// run to run: the next key that a source has, then as far as sources that touch reach. Sources are asked by the next or last bit that is set.

struct Parameters {
  offsets: array<vec4u, OFFSET_WORDS>,
  words_of_plan: u32,
  batch: u32,
  mask_heads: u32,
  heads: u32,
  rows: u32,
  length_q: u32,
  block_q: u32,
  block_k: u32,
  capacity: u32,
  slash_step: u32,
  max_slashes: u32,
  excluded: u32,
  window: i32,
  max_ranges: u32,
  max_columns: u32,
  pad: u32,
  // Heads, groups and words of blocks, moreBlocks, columns, slashes.
  blocks: vec4u,
  more_blocks: vec4u,
  columns: vec4u,
  slashes: vec4u,
  // Rows and ranges of each.
  ranges: vec2u,
}

/* bindings */

// Where the section of a header word starts, in the order of loweredLayout; 0 where there is none.
fn section_of(word: u32) -> u32 {
  let rows = p.batch * p.mask_heads * p.rows;
  let elements = 32u + p.heads;
  let first_ranges = elements + 3u * p.batch;
  let mapped = first_ranges + 4u * rows;
  let counted = mapped + select(0u, p.heads, has_kvMap);
  switch word {
    case 8u: { return 32u; }
    case 9u: { return elements; }
    case 10u: { return elements + p.batch; }
    case 11u: { return elements + 2u * p.batch; }
    case 12u: { return first_ranges; }
    case 13u: { return first_ranges + rows; }
    case 15u: { return first_ranges + 2u * rows; }
    case 16u: { return first_ranges + 3u * rows; }
    case 21u: { return select(0u, mapped, has_kvMap); }
    case 27u: { return counted; }
    case 14u: { return counted + rows; }
    case 17u: { return counted + rows + 3u * p.max_ranges * rows; }
    default: { return 0u; }
  }
}

fn section(word: u32) -> u32 {
  return plan_offset() + section_of(word);
}

fn shared_head(head: u32, heads: u32, own: u32) -> u32 {
  if (own == heads) {
    return head;
  }
  if (own == 1u) {
    return 0u;
  }
  if (has_kvMap) {
    return u32(clamp(kvMap_at(head), 0, i32(own) - 1));
  }
  return head * own / heads;
}

fn lengths_of(element: u32) -> vec2i {
  if (has_lengths) {
    return vec2i(
      clamp(lengths_at(2u * element), 0, i32(p.length_q)),
      clamp(lengths_at(2u * element + 1u), 0, i32(p.capacity)),
    );
  }
  return vec2i(i32(p.length_q), i32(p.capacity));
}

@compute @workgroup_size(64)
fn head(@builtin(local_invocation_index) lane: u32) {
  let base = plan_offset();
  if (lane < 32u) {
    var word = i32(section_of(lane));
    switch lane {
      case 0u: { word = 2; }
      case 1u: { word = i32(p.batch); }
      case 2u: { word = i32(p.mask_heads); }
      case 3u: { word = i32(p.rows); }
      case 4u: { word = i32(p.block_q); }
      case 5u: { word = 1; }
      case 6u: { word = p.window; }
      case 7u: { word = i32(p.words_of_plan); }
      case 29u: { word = i32(p.heads); }
      default: {}
    }
    plan[base + lane] = word;
  }
  for (var own = lane; own < p.heads; own += 64u) {
    plan[section(8u) + own] = i32(shared_head(own, p.heads, p.mask_heads));
    if (has_kvMap) {
      plan[section(21u) + own] = kvMap_at(own);
    }
  }
  for (var element = lane; element < p.batch; element += 64u) {
    let length = lengths_of(element);
    plan[section(9u) + element] = length.y - length.x;
    plan[section(10u) + element] = length.x;
    plan[section(11u) + element] = length.y;
  }
}

// The row block of this invocation.
var<private> first: i32;
var<private> last: i32;
var<private> span_start: i32;
var<private> span_end: i32;
// Where its words start in each source, and its ranges.
var<private> blocks_from: u32;
var<private> more_from: u32;
var<private> columns_from: u32;
var<private> slashes_from: u32;
var<private> ranges_from: u32;
// Slash bits that count.
var<private> slash_bits: u32;

fn blocks_word(word: u32) -> u32 {
  var bits = 0u;
  if (has_blocks) {
    bits = blocks_at(blocks_from + word);
  }
  if (has_moreBlocks) {
    bits |= moreBlocks_at(more_from + word);
  }
  return bits;
}

// The first set bit of the blocks from `bit` on; beyond all when there is none.
fn next_block(bit: u32) -> u32 {
  let words = max(p.blocks.z, p.more_blocks.z);
  for (var word = bit / 32u; word < words; word++) {
    var bits = blocks_word(word);
    if (word == bit / 32u) {
      bits &= 0xffffffffu << (bit % 32u);
    }
    if (bits != 0u) {
      return 32u * word + countTrailingZeros(bits);
    }
  }
  return 0x7fffffffu;
}

// The first set bit of the slashes from `bit` on, below `end`; beyond all when there is none.
fn next_slash(bit: u32, end: u32) -> u32 {
  for (var word = bit / 32u; 32u * word < end; word++) {
    var bits = slashes_at(slashes_from + word);
    if (word == bit / 32u) {
      bits &= 0xffffffffu << (bit % 32u);
    }
    if (bits != 0u) {
      let found = 32u * word + countTrailingZeros(bits);
      return select(0x7fffffffu, found, found < end);
    }
  }
  return 0x7fffffffu;
}

// The last set bit of the slashes below `end`; −1 when there is none.
fn last_slash(end: u32) -> i32 {
  var bit = min(end, slash_bits);
  while (bit > 0u) {
    let word = (bit - 1u) / 32u;
    let bits = slashes_at(slashes_from + word) & (0xffffffffu >> (31u - (bit - 1u) % 32u));
    if (bits != 0u) {
      return i32(32u * word + firstLeadingBit(bits));
    }
    bit = 32u * word;
  }
  return -1;
}

// Range `index` of the row as keys.
fn given(index: u32) -> vec2i {
  let start = ranges_at(ranges_from + 2u * index);
  let end = ranges_at(ranges_from + 2u * index + 1u);
  return vec2i(select(start, first + 1 + start, start < 0), select(end, last + 1 + end, end <= 0));
}

// The least offset a − o that is at least `offset`, in slash bits.
fn slash_from(offset: i32) -> u32 {
  return (u32(max(0, offset)) + p.slash_step - 1u) / p.slash_step;
}

// Whether a source has the key, and how far the run that does reaches; `key` itself when none has.
fn reach(key: i32) -> i32 {
  var end = key;
  if (has_blocks || has_moreBlocks) {
    let block = u32(key) / p.block_k;
    if (((blocks_word(block / 32u) >> (block % 32u)) & 1u) == 1u) {
      end = max(end, i32((block + 1u) * p.block_k));
    }
  }
  if (has_slashes) {
    // Bands from the key back to the ones that just reach it; the least offset reaches furthest.
    let bit = next_slash(slash_from(first - key), min(slash_bits, slash_from(first - key + i32(p.block_q))));
    if (bit < slash_bits) {
      end = max(end, first - i32(bit * p.slash_step) + i32(p.block_q));
    }
  }
  for (var index = 0u; index + p.excluded < p.ranges.y; index++) {
    let range = given(index);
    if (range.x <= key) {
      end = max(end, range.y);
    }
  }
  return min(end, span_end);
}

// The first key from `key` on that a source has; the end when there is none.
fn next_start(key: i32) -> i32 {
  var found = span_end;
  if (has_blocks || has_moreBlocks) {
    let block = next_block((u32(key) + p.block_k - 1u) / p.block_k);
    if (block < 0x7fffffffu) {
      found = min(found, i32(min(block * p.block_k, u32(span_end))));
    }
  }
  if (has_slashes && first >= key) {
    let bit = last_slash(u32(first - key) / p.slash_step + 1u);
    if (bit >= 0) {
      found = min(found, first - bit * i32(p.slash_step));
    }
  }
  for (var index = 0u; index + p.excluded < p.ranges.y; index++) {
    let range = given(index);
    if (range.x >= key && range.y > range.x) {
      found = min(found, range.x);
    }
  }
  return found;
}

// The first key from `key` on that no excluded range has.
fn past_cuts(key: i32) -> i32 {
  var at = key;
  var moved = true;
  while (moved) {
    moved = false;
    for (var index = p.ranges.y - p.excluded; index < p.ranges.y; index++) {
      let range = given(index);
      if (range.x <= at && range.y > at) {
        at = range.y;
        moved = true;
      }
    }
  }
  return at;
}

// The first key from `key` on that an excluded range has.
fn next_cut(key: i32) -> i32 {
  var found = span_end;
  for (var index = p.ranges.y - p.excluded; index < p.ranges.y; index++) {
    let range = given(index);
    if (range.y > range.x && range.y > key) {
      found = min(found, max(key, range.x));
    }
  }
  return found;
}

// Queries of the block that see a key.
fn seen_by(key: i32) -> i32 {
  var end = last;
  if (p.window > 0) {
    end = min(last, key + p.window - 1);
  }
  return max(0, end - max(first, key) + 1);
}

var<private> range_count: u32;
var<private> column_count: u32;
var<private> cell_count: i32;

fn write_range(row: u32, start: i32, end: i32, tested: bool) {
  if (end <= start) {
    return;
  }
  let at = section(14u) + 3u * (row * p.max_ranges + range_count);
  plan[at] = start;
  plan[at + 1u] = end;
  plan[at + 2u] = select(0, 1, tested);
  range_count++;
  if (tested) {
    for (var key = start; key < end; key++) {
      cell_count += seen_by(key);
    }
  } else {
    cell_count += (end - start) * (last - first + 1);
  }
}

// Only keys behind the first query, and before the last one's window, are tested.
fn write_run(row: u32, start: i32, end: i32) {
  var clear_start = start;
  if (p.window > 0) {
    clear_start = min(max(start, last + 1 - p.window), end);
  }
  let clear_end = max(min(end, first + 1), clear_start);
  if (clear_start == clear_end) {
    write_range(row, start, end, true);
    return;
  }
  write_range(row, start, clear_start, true);
  write_range(row, clear_start, clear_end, false);
  write_range(row, clear_end, end, true);
}

// Columns in the gap [start, end) of the runs, outside of the excluded ranges.
fn write_columns(row: u32, start: i32, end: i32) {
  if (!has_columns) {
    return;
  }
  var word = u32(start) / 32u;
  while (i32(32u * word) < end && column_count < p.max_columns) {
    var bits = columns_at(columns_from + word);
    while (bits != 0u && column_count < p.max_columns) {
      let key = i32(32u * word + countTrailingZeros(bits));
      bits &= bits - 1u;
      if (key >= start && key < end && past_cuts(key) == key) {
        plan[section(17u) + row * p.max_columns + column_count] = key;
        column_count++;
        cell_count += seen_by(key);
      }
    }
    word++;
  }
}

// The runs of a row, each cut by what is excluded, and the columns between them.
fn write_runs(row: u32) {
  var key = span_start;
  while (key < span_end) {
    var start = key;
    if (reach(key) == key) {
      start = next_start(key);
    }
    write_columns(row, key, start);
    if (start >= span_end) {
      return;
    }
    var end = start;
    var further = reach(end);
    while (further > end) {
      end = further;
      if (end < span_end) {
        further = reach(end);
      }
    }
    var part = past_cuts(start);
    while (part < end) {
      let until = min(end, next_cut(part));
      write_run(row, part, until);
      part = past_cuts(until);
      if (until == end) {
        break;
      }
    }
    key = end;
  }
}

fn words_from(source: vec4u, element: u32, mask_head: u32, group: u32) -> u32 {
  let head = shared_head(mask_head, p.mask_heads, source.x);
  return ((element * source.x + head) * source.y + select(group, 0u, source.y == 1u)) * source.z;
}

fn count_slashes() -> u32 {
  var left = p.max_slashes;
  for (var word = 0u; word < p.slashes.z; word++) {
    var bits = slashes_at(slashes_from + word);
    let count = countOneBits(bits);
    if (count > left) {
      for (; left > 0u; left--) {
        bits &= bits - 1u;
      }
      return 32u * word + countTrailingZeros(bits);
    }
    left -= count;
  }
  return (p.capacity + p.slash_step - 1u) / p.slash_step;
}

@compute @workgroup_size(64)
fn rows(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = (group.y * groups.x + group.x) * 64u + lane;
  if (row >= p.batch * p.mask_heads * p.rows) {
    return;
  }
  let block = row % p.rows;
  let mask_head = row / p.rows % p.mask_heads;
  let element = row / (p.rows * p.mask_heads);
  let length = lengths_of(element);
  let queries = min(i32(p.block_q), length.x - i32(block * p.block_q));
  if (queries > 0) {
    first = length.y - length.x + i32(block * p.block_q);
    last = first + queries - 1;
    span_start = select(0, max(0, first + 1 - p.window), p.window > 0);
    span_end = clamp(last + 1, 0, i32(p.capacity));
    blocks_from = words_from(p.blocks, element, mask_head, block);
    more_from = words_from(p.more_blocks, element, mask_head, block);
    if (has_columns) {
      let shared_rows = (p.rows + p.columns.y - 1u) / p.columns.y;
      columns_from = words_from(p.columns, element, mask_head, block / shared_rows);
    }
    if (has_slashes) {
      slashes_from = words_from(p.slashes, element, mask_head, 0u);
      slash_bits = count_slashes();
    }
    ranges_from = select(block, 0u, p.ranges.x == 1u) * p.ranges.y * 2u;
    write_runs(row);
  }
  for (var slot = 3u * range_count; slot < 3u * p.max_ranges; slot++) {
    plan[section(14u) + 3u * row * p.max_ranges + slot] = 0;
  }
  for (var slot = column_count; slot < p.max_columns; slot++) {
    plan[section(17u) + row * p.max_columns + slot] = 0;
  }
  plan[section(12u) + row] = i32(row * p.max_ranges);
  plan[section(13u) + row] = i32(range_count);
  plan[section(15u) + row] = i32(row * p.max_columns);
  plan[section(16u) + row] = i32(column_count);
  plan[section(27u) + row] = cell_count;
  cells[cells_offset() + row] = f32(cell_count);
}
