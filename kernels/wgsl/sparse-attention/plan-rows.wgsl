// How a packed plan is read query by query: docs/design/sparse-attention.md. Needs `plan` and plan_offset(); stands behind a kernel's module.

fn plan_word(index: u32) -> i32 {
  return plan[plan_offset() + index];
}

// Item `index` of the section whose offset stands in header word `header`.
fn section(header: u32, index: u32) -> i32 {
  return plan_word(u32(plan_word(header)) + index);
}

// What the plan says about a query.
struct Planned {
  batch: u32,
  query: u32,
  position: i32,
  // Whether the query is one of its element's.
  exists: bool,
  first_range: u32,
  end_range: u32,
  first_column: u32,
  end_column: u32,
}

fn planned(batch: u32, head: u32, query: u32) -> Planned {
  let mask_head = u32(section(8u, head));
  let row = (batch * u32(plan_word(2u)) + mask_head) * u32(plan_word(3u)) + query / u32(plan_word(4u));
  let exists = i32(query) < section(10u, batch);
  let first_range = u32(section(12u, select(0u, row, exists)));
  let first_column = u32(section(15u, select(0u, row, exists)));
  return Planned(
    batch,
    query,
    section(9u, batch) + i32(query),
    exists,
    first_range,
    first_range + select(0u, u32(section(13u, row)), exists),
    first_column,
    first_column + select(0u, u32(section(16u, row)), exists),
  );
}

// Causality, window and segments; of positions where the plan has some.
fn passes(row: Planned, key: i32) -> bool {
  var at = row.position;
  var key_at = key;
  let queries = row.batch * u32(plan_word(28u)) + row.query;
  let keys = row.batch * u32(plan_word(26u)) + u32(key);
  if (plan_word(22u) != 0) {
    at = section(22u, queries);
    key_at = section(23u, keys);
  }
  if (plan_word(24u) != 0 && section(24u, queries) != section(25u, keys)) {
    return false;
  }
  let window = plan_word(6u);
  return ((plan_word(5u) & 1) == 0 || key_at <= at) && (window == 0 || at - key_at < window);
}

// The query's bit in the words of row bits from item `first` of a section on.
fn has_bit(row: Planned, header: u32, first: u32) -> bool {
  let bit = row.query % u32(plan_word(4u));
  return ((section(header, first + bit / 32u) >> (bit % 32u)) & 1) == 1;
}

fn bit_words() -> u32 {
  return (u32(plan_word(4u)) + 31u) / 32u;
}

// Whether the query sees `key` of a range (start, end, flag).
fn sees_of_range(row: Planned, start: i32, flag: i32, key: i32) -> bool {
  if (flag == 0) {
    return true;
  }
  if (flag >= 2) {
    let own = select(0u, u32(key - start) * bit_words(), ((flag - 2) & 1) == 1);
    if (!has_bit(row, 19u, u32((flag - 2) >> 1u) + own)) {
      return false;
    }
  }
  return passes(row, key);
}

// Whether the query sees the column at `index` of the columns, which is `key`.
fn sees_column(row: Planned, index: u32, key: i32) -> bool {
  if (plan_word(20u) != 0 && !has_bit(row, 20u, index * bit_words())) {
    return false;
  }
  return passes(row, key);
}

// Key-value head of a query head; without a map, groups of the same size.
fn planned_kv_head(head: u32, heads: u32, kv_heads: u32) -> u32 {
  if (plan_word(21u) != 0) {
    return u32(section(21u, head));
  }
  return head / (heads / kv_heads);
}
