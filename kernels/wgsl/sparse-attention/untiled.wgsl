// Keys one by one, where all of them count. Stands behind attend.wgsl.

fn begin_tiles(position: i32) {}

fn leaves_out(most: f32) -> bool {
  return false;
}

fn see(row: Row, tile: u32, position: u32) {
  see_key(row, position);
}

fn finish_row(row: Row) {
  end_row(row);
}

fn keeps(lane: u32, position: u32) -> bool {
  return true;
}
