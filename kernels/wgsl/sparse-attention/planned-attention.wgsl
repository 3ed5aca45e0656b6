// Attention over the ranges and columns of a packed plan. Contract: packages/sparse-attention/src/ops/planned-attention.ts.
// Reads K and V of the row's keys once per query row; 2 * keys * (dim + value_dim) operations a row. Stands before attend.wgsl.

struct Parameters {
  offsets: array<vec4u, OFFSET_WORDS>,
  rows: u32,
  first: u32,
  queries: u32,
  lse_first: u32,
  heads: u32,
  length_q: u32,
  dim: u32,
  value_dim: u32,
  kv_heads: u32,
  page_size: u32,
  pages_per_batch: u32,
  heads_first: u32,
  first_key_row: u32,
  key_rows: u32,
  capacity: u32,
  resume: u32,
  scale: f32,
  softcap: f32,
}

/* bindings */

fn word(index: u32) -> i32 {
  return plan[plan_offset() + index];
}

// Word `index` of the section whose offset stands in header word `header`.
fn section(header: u32, index: u32) -> i32 {
  return word(u32(word(header)) + index);
}

// What the plan says about the row of a query.
struct Planned {
  position: i32,
  causal: bool,
  window: i32,
  first_range: u32,
  end_range: u32,
  first_column: u32,
  end_column: u32,
}

fn planned(row: Row) -> Planned {
  let mask_head = u32(section(8u, row.head));
  let plan_row = (row.batch * u32(word(2u)) + mask_head) * u32(word(3u)) + row.query / u32(word(4u));
  let first_range = u32(section(12u, plan_row));
  let first_column = u32(section(15u, plan_row));
  return Planned(
    section(9u, row.batch) + i32(row.query),
    (word(5u) & 1) == 1,
    word(6u),
    first_range,
    first_range + u32(section(13u, plan_row)),
    first_column,
    first_column + u32(section(16u, plan_row)),
  );
}

fn passes(plan_row: Planned, key: i32) -> bool {
  return (!plan_row.causal || key <= plan_row.position) && (plan_row.window == 0 || plan_row.position - key < plan_row.window);
}

@compute @workgroup_size(64)
fn rows(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.rows) {
    return;
  }
  let row = row_of(index);
  let plan_row = planned(row);
  begin_row(row);
  for (var range = plan_row.first_range; range < plan_row.end_range; range++) {
    let tested = section(14u, 3u * range + 2u) == 1;
    for (var key = section(14u, 3u * range); key < section(14u, 3u * range + 1u); key++) {
      if (!tested || passes(plan_row, key)) {
        see_key(row, u32(key));
      }
    }
  }
  for (var column = plan_row.first_column; column < plan_row.end_column; column++) {
    let key = section(17u, column);
    if (passes(plan_row, key)) {
      see_key(row, u32(key));
    }
  }
  end_row(row);
}

@compute @workgroup_size(64)
fn split(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.y * groups.x + group.x;
  if (index >= p.rows) {
    return;
  }
  let row = row_of(index);
  let plan_row = planned(row);
  begin_split(row, lane);
  for (var range = plan_row.first_range; range < plan_row.end_range; range++) {
    let end = section(14u, 3u * range + 1u);
    let tested = section(14u, 3u * range + 2u) == 1;
    for (var key = section(14u, 3u * range); key < end; key += 64) {
      let own = key + i32(lane);
      see_keys(row, lane, u32(own), own < end && (!tested || passes(plan_row, own)));
    }
  }
  for (var column = plan_row.first_column; column < plan_row.end_column; column += 64u) {
    let mine = column + lane < plan_row.end_column;
    let key = section(17u, select(column, column + lane, mine));
    see_keys(row, lane, u32(key), mine && passes(plan_row, key));
  }
  end_split(row, lane);
}
