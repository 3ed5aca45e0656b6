// Reads a packed plan: docs/design/sparse-attention.md has its words. Stands behind the bindings.

fn word(index: u32) -> i32 {
  return plan[plan_offset() + index];
}

// Word `index` of the section whose offset stands in header word `header`.
fn section(header: u32, index: u32) -> i32 {
  return word(u32(word(header)) + index);
}

fn kv_head_of(head: u32) -> u32 {
  if (word(21u) == 0) {
    return head / (p.heads / p.kv_heads);
  }
  return u32(section(21u, head));
}

// What the plan says about a query.
struct Planned {
  // What causality and window compare keys with.
  position: i32,
  causal: bool,
  window: i32,
  segment: i32,
  // Words where numbers of keys start; 0: there are none.
  positions: u32,
  segments: u32,
  first_range: u32,
  end_range: u32,
  first_column: u32,
  end_column: u32,
  // Words of a row mask; the one of this query, and its bit.
  mask_words: u32,
  mask_word: u32,
  mask_bit: u32,
}

// A query beyond its element's queries has no ranges and no columns.
fn planned(batch: u32, head: u32, query: u32) -> Planned {
  let mask_head = u32(section(8u, head));
  let block_q = u32(word(4u));
  let row = (batch * u32(word(2u)) + mask_head) * u32(word(3u)) + query / block_q;
  let here = i32(query) < section(10u, batch);
  var result: Planned;
  if (here) {
    result.first_range = u32(section(12u, row));
    result.end_range = result.first_range + u32(section(13u, row));
    result.first_column = u32(section(15u, row));
    result.end_column = result.first_column + u32(section(16u, row));
    result.position = section(9u, batch) + i32(query);
    if (word(22u) != 0) {
      result.position = section(22u, batch * u32(word(28u)) + query);
      result.positions = u32(word(23u)) + batch * u32(word(26u));
    }
    if (word(24u) != 0) {
      result.segment = section(24u, batch * u32(word(28u)) + query);
      result.segments = u32(word(25u)) + batch * u32(word(26u));
    }
  }
  result.causal = (word(5u) & 1) == 1;
  result.window = word(6u);
  result.mask_words = (block_q + 31u) / 32u;
  result.mask_word = query % block_q / 32u;
  result.mask_bit = query % block_q % 32u;
  return result;
}

fn passes(row: Planned, key: i32) -> bool {
  var position = key;
  if (row.positions != 0u) {
    position = word(row.positions + u32(key));
  }
  if (row.segments != 0u && word(row.segments + u32(key)) != row.segment) {
    return false;
  }
  return (!row.causal || position <= row.position) && (row.window == 0 || row.position - position < row.window);
}

// Whether the query's bit is set in the mask that starts at word `at` of a section.
fn bit_of(row: Planned, header: u32, at: u32) -> bool {
  return ((section(header, at + row.mask_word) >> row.mask_bit) & 1) == 1;
}

// Whether the query sees a key of a range.
fn range_shows(row: Planned, flag: i32, start: i32, key: i32) -> bool {
  if (flag == 0) {
    return true;
  }
  if (flag > 1) {
    let own = select(0u, u32(key - start) * row.mask_words, (flag & 1) == 1);
    if (!bit_of(row, 19u, u32(flag - 2) / 2u + own)) {
      return false;
    }
  }
  return passes(row, key);
}

fn column_shows(row: Planned, column: u32, key: i32) -> bool {
  if (word(20u) != 0 && !bit_of(row, 20u, column * row.mask_words)) {
    return false;
  }
  return passes(row, key);
}
