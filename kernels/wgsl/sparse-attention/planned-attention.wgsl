// Attention over the ranges and columns of a packed plan. Contract: packages/sparse-attention/src/ops/planned-attention.ts.
// Reads K and V of the row's keys once per query row; 2 * keys * (dim + value_dim) operations a row. Stands before plan.wgsl and attend.wgsl.

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
  pv_skip: f32,
  score_n: u32,
  score_m: u32,
  score_sinks: u32,
  score_recent: u32,
}

/* bindings */

// Tile of an entry of a row's list.
fn tile_of(entry: u32, key: i32) -> u32 {
  return select(entry, u32(key), p.score_m > 0u) / 64u;
}

@compute @workgroup_size(64)
fn rows(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.rows) {
    return;
  }
  let row = row_of(index);
  let plan_row = planned(row.batch, row.head, row.query);
  begin_row(row);
  begin_tiles(section(9u, row.batch) + i32(row.query));
  // Ranges and the columns between them, ascending.
  var entry = 0u;
  var column = plan_row.first_column;
  for (var range = plan_row.first_range; range <= plan_row.end_range; range++) {
    var start = 0x7fffffff;
    if (range < plan_row.end_range) {
      start = section(14u, 3u * range);
    }
    for (; column < plan_row.end_column; column++) {
      let key = section(17u, column);
      if (key >= start) {
        break;
      }
      if (column_shows(plan_row, column, key)) {
        see(row, tile_of(entry, key), u32(key));
      }
      entry++;
    }
    if (range == plan_row.end_range) {
      break;
    }
    let flag = section(14u, 3u * range + 2u);
    for (var key = start; key < section(14u, 3u * range + 1u); key++) {
      if (range_shows(plan_row, flag, start, key)) {
        see(row, tile_of(entry, key), u32(key));
      }
      entry++;
    }
  }
  finish_row(row);
}

@compute @workgroup_size(64)
fn split(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.y * groups.x + group.x;
  if (index >= p.rows) {
    return;
  }
  let row = row_of(index);
  let plan_row = planned(row.batch, row.head, row.query);
  begin_split(row, lane);
  for (var range = plan_row.first_range; range < plan_row.end_range; range++) {
    let start = section(14u, 3u * range);
    let end = section(14u, 3u * range + 1u);
    let flag = section(14u, 3u * range + 2u);
    for (var key = start; key < end; key += 64) {
      let own = key + i32(lane);
      see_keys(row, lane, u32(own), own < end && range_shows(plan_row, flag, start, own));
    }
  }
  for (var column = plan_row.first_column; column < plan_row.end_column; column += 64u) {
    let mine = column + lane < plan_row.end_column;
    let own = select(column, column + lane, mine);
    let key = section(17u, own);
    see_keys(row, lane, u32(key), mine && column_shows(plan_row, own, key));
  }
  end_split(row, lane);
}
