// Encoding to levels, which stands behind encode.wgsl. The scale of an entry is found by comparing squares: of numbers cut to 12 bits and of
// half-precision scales they are exact, and so are products of thresholds and scales, so all backends write the same bytes.

const LARGEST_MEAN_SQUARE = 0x1p32;
const THRESHOLDS = LEVEL_THRESHOLDS;

// Bits of the scale of an entry.
fn level_scale(entry: u32) -> u32 {
  var squares = 0.0;
  var bad = false;
  for (var channel = 0u; channel < DIM; channel++) {
    let x = value(entry, channel);
    // What is as large as this is beyond the mean square alone.
    bad = bad || (bitcast<u32>(x) & 0x7fffffffu) >= 0x4b000000u;
    let short = bitcast<f32>(bitcast<u32>(x) & 0xfffff000u);
    squares += select(short * short, 0.0, abs(x) < 0x1p-60);
  }
  if (bad || squares > LARGEST_MEAN_SQUARE * f32(DIM)) {
    return NAN_HALF;
  }
  if (squares == 0.0) {
    return 0u;
  }
  var bits = min(max(half_towards_zero(sqrt(squares / f32(DIM))).x, 3u) - 2u, 0x7bffu);
  while (bits < 0x7bffu && half_value(bits) * half_value(bits) * f32(DIM) < squares) {
    bits++;
  }
  return bits;
}

fn level_code(x: f32, scale: u32) -> u32 {
  if (scale == NAN_HALF) {
    return 0u;
  }
  let unit = half_value(scale);
  var code = 0u;
  for (var index = 0u; index < (1u << BITS) - 1u; index++) {
    code += u32(x > THRESHOLDS[index] * unit);
  }
  return code;
}

// Keys: four entries of a group, two that are neighbours and those 16 behind them.
fn encode_key_levels(unit: u32) {
  let per_chunk = 16u / BITS;
  let column = unit / 8u * 32u + unit % 8u * 2u;
  var scales: array<u32, 4>;
  for (var index = 0u; index < 4u; index++) {
    scales[index] = level_scale(column + index % 2u + index / 2u * 16u);
  }
  let at = page + (column / 32u * GROUP_BYTES) / 4u + column % 32u;
  var words: array<u32, 2>;
  for (var chunk = 0u; chunk < PADDED_ROWS / per_chunk; chunk++) {
    // A variable of the loop is not cleared by every compiler.
    words[0] = 0u;
    words[1] = 0u;
    for (var own = 0u; own < per_chunk; own++) {
      let row = chunk * per_chunk + own;
      if (row >= ROWS) {
        break;
      }
      for (var index = 0u; index < 4u; index++) {
        let code = level_code(cell(row, column + index % 2u + index / 2u * 16u), scales[index]);
        words[index % 2u] |= code << (BITS * (2u * own + index / 2u));
      }
    }
    coded[at + chunk * 16u] = words[0];
    coded[at + chunk * 16u + 1u] = words[1];
  }
  let to = page + (SCALES_AT + 2u * column) / 4u;
  coded[to] = scales[0] | (scales[1] << 16u);
  coded[to + 8u] = scales[2] | (scales[3] << 16u);
}

// Values: the entries of a chunk.
fn encode_value_levels(unit: u32) {
  let per_chunk = 16u / BITS;
  let first = unit * per_chunk;
  var scales: array<u32, 8>;
  for (var own = 0u; own < per_chunk; own++) {
    scales[own] = level_scale(first + own);
  }
  for (var group = 0u; group < GROUPS; group++) {
    for (var word = 0u; word < 16u; word++) {
      var bits = 0u;
      for (var index = 0u; index < 2u * per_chunk; index++) {
        let column = 32u * group + word + 16u * (index % 2u);
        if (column < COLUMNS) {
          bits |= level_code(cell(first + index / 2u, column), scales[index / 2u]) << (BITS * index);
        }
      }
      coded[page + group * GROUP_BYTES / 4u + unit * 16u + word] = bits;
    }
  }
  for (var own = 0u; own < per_chunk; own += 2u) {
    coded[page + (SCALES_AT + 2u * (first + own)) / 4u] = scales[own] | (scales[own + 1u] << 16u);
  }
}
