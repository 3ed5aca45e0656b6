// One row for every window of rows. Contract: packages/sparse-attention/src/select/pool-blocks.ts.
// One workgroup a window, channels in lanes; for directions the norms of 64 rows at a time first, two barriers each.

struct Parameters {
  offsets: array<vec4u, OFFSET_WORDS>,
  first: u32,
  count: u32,
  windows: u32,
  heads: u32,
  dim: u32,
  capacity: u32,
  page_size: u32,
  pages_per_batch: u32,
  block: u32,
  stride: u32,
  mode: u32,
  axes: u32,
}

/* bindings */

const MEAN = 0u;
const MAX = 1u;
const MIN = 2u;
const ABSMAX = 3u;
const LAST = 4u;
const DIRECTION = 5u;
// Layouts of x.
const PAGES = 0u;
const BLHD = 2u;

var<workgroup> norms: array<f32, 64>;

fn row_of(element: u32, head: u32, item: u32) -> u32 {
  if (p.axes == BLHD) {
    return (element * p.capacity + item) * p.heads + head;
  }
  if (has_table) {
    let page = u32(table_at(element * p.pages_per_batch + item / p.page_size));
    return (page * p.heads + head) * p.page_size + item % p.page_size;
  }
  return (element * p.heads + head) * p.page_size + item;
}

fn value(row: u32, column: u32, channel: u32) -> f32 {
  let own = x_at(row * p.dim + channel);
  if (has_center) {
    return own - center_at(column * p.dim + channel);
  }
  return own;
}

fn norm(row: u32, column: u32) -> f32 {
  var sum = 0.0;
  for (var channel = 0u; channel < p.dim; channel++) {
    let own = value(row, column, channel);
    sum += own * own;
  }
  return sqrt(sum);
}

fn start() -> f32 {
  switch p.mode {
    case MAX: { return -3.4028234e38; }
    case MIN: { return 3.4028234e38; }
    default: { return 0.0; }
  }
}

fn pooled(sum: f32, own: f32) -> f32 {
  switch p.mode {
    case MAX: { return max(sum, own); }
    case MIN: { return min(sum, own); }
    case ABSMAX: { return max(sum, abs(own)); }
    case LAST: { return own; }
    default: { return sum + own; }
  }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.y * groups.x + group.x;
  if (index >= p.count) {
    return;
  }
  let column = (p.first + index) / p.windows;
  let head = column % p.heads;
  let element = column / p.heads;
  var length = p.capacity;
  if (has_lengths) {
    length = min(length, u32(max(0, lengths_at(2u * element + select(0u, 1u, p.axes == PAGES)))));
  }
  let begin = min((p.first + index) % p.windows * p.stride, length);
  let end = min(begin + p.block, length);
  if (p.mode == DIRECTION) {
    // Channels of a pass in lanes; what a pass adds up is kept in y.
    for (var channel = lane; channel < p.dim; channel += 64u) {
      y[y_offset() + index * p.dim + channel] = 0.0;
    }
    for (var item = begin; item < end; item += 64u) {
      norms[lane] = 0.0;
      if (item + lane < end) {
        norms[lane] = norm(row_of(element, head, item + lane), column);
      }
      workgroupBarrier();
      for (var channel = lane; channel < p.dim; channel += 64u) {
        var sum = 0.0;
        for (var other = 0u; other < min(64u, end - item); other++) {
          if (norms[other] > 0.0) {
            sum += value(row_of(element, head, item + other), column, channel) / norms[other];
          }
        }
        y[y_offset() + index * p.dim + channel] += sum / f32(end - begin);
      }
      workgroupBarrier();
    }
    return;
  }
  for (var channel = lane; channel < p.dim; channel += 64u) {
    var sum = start();
    for (var item = begin; item < end; item++) {
      sum = pooled(sum, value(row_of(element, head, item), column, channel));
    }
    if (p.mode == MEAN) {
      sum /= f32(max(1u, end - begin));
    }
    y[y_offset() + index * p.dim + channel] = select(0.0, sum, end > begin);
  }
}
