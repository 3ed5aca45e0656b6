// Keys by tiles, where a tile is decided upon as a whole: negligible ones are left out, and the largest of every few scores are kept. Stands behind
// attend.wgsl. All keys are bound: what came before the keys of a window is not known from o and lse alone.

// Whether scores compete, each against those of its own group of p.score_m positions.
const COMPETING = SCORE_M;

// Greatest score so far, of tiles that were left out too.
var<private> running: f32 = NONE;
// Place of the query in the cache.
var<private> place: i32;

fn begin_tiles(position: i32) {
  place = position;
}

fn leaves_out(most: f32) -> bool {
  let margin = p.pv_skip * select(1.0, LOG2_E, BF16);
  let out = p.pv_skip > 0.0 && running > NONE && most <= running - margin;
  running = max(running, most);
  return out;
}

fn competes(position: u32) -> bool {
  return position >= p.score_sinks && place - i32(position) >= i32(p.score_recent);
}

// ---- rows

var<private> tile: u32;
var<private> count: u32;
var<private> tile_scores: array<f32, 64>;
var<private> tile_keys: array<u32, 64>;
var<private> tile_positions: array<u32, 64>;
var<private> tile_kept: array<bool, 64>;

fn see(row: Row, of_tile: u32, position: u32) {
  if (of_tile != tile) {
    end_tile();
    tile = of_tile;
  }
  let key = key_row(row, position);
  if (key < p.key_rows) {
    tile_scores[count] = score(row, key);
    tile_keys[count] = key;
    tile_positions[count] = position;
    count++;
  }
}

// Whether fewer than p.score_n scores of the group of entry `own` are better.
fn kept(own: u32) -> bool {
  let position = tile_positions[own];
  if (!COMPETING || !competes(position)) {
    return true;
  }
  var better = 0u;
  for (var other = own - min(own, p.score_m - 1u); other < min(count, own + p.score_m); other++) {
    if (tile_positions[other] / p.score_m == position / p.score_m && competes(tile_positions[other])) {
      let ahead = tile_scores[other] == tile_scores[own] && other < own;
      better += select(0u, 1u, tile_scores[other] > tile_scores[own] || ahead);
    }
  }
  return better < p.score_n;
}

fn end_tile() {
  var most = NONE;
  for (var entry = 0u; entry < count; entry++) {
    tile_kept[entry] = kept(entry);
    if (tile_kept[entry]) {
      most = max(most, tile_scores[entry]);
    }
  }
  if (count > 0u && !leaves_out(most)) {
    for (var entry = 0u; entry < count; entry++) {
      if (tile_kept[entry]) {
        add_key(tile_scores[entry], tile_keys[entry]);
      }
    }
  }
  count = 0u;
}

fn finish_row(row: Row) {
  end_tile();
  end_row(row);
}

// ---- split: 64 keys that follow each other from a multiple of 64 on, or entries of a list that do not compete

fn keeps(lane: u32, position: u32) -> bool {
  if (!COMPETING) {
    return true;
  }
  var better = 0u;
  let own = scores[lane];
  let first = lane / p.score_m * p.score_m;
  for (var other = first; other < first + p.score_m; other++) {
    let value = scores[other];
    if (!(value <= NONE) && competes(position - lane + other)) {
      better += select(0u, 1u, value > own || (value == own && other < lane));
    }
  }
  let stays = better < p.score_n || !competes(position);
  workgroupBarrier();
  if (!stays) {
    scores[lane] = NONE;
  }
  workgroupBarrier();
  return stays;
}
