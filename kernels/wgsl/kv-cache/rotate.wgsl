// Rows times seeded signs and a Walsh-Hadamard matrix, or the other way round. Contract: packages/kv-cache/src/ops/rotate.ts.
// A workgroup a row, which lies in its memory; DIM * log2(DIM) additions, by doubling distances, as on all backends.

struct Parameters {
  offsets: array<vec4u, OFFSET_WORDS>,
  rows: u32,
  seed: u32,
  inverse: u32,
  factor: f32,
}

/* bindings */

var<workgroup> row: array<f32, DIM>;

fn sign_of(channel: u32) -> f32 {
  var bits = p.seed ^ (channel * 0x9e3779b9u);
  bits = (bits ^ (bits >> 16u)) * 0x7feb352du;
  bits = (bits ^ (bits >> 15u)) * 0x846ca68bu;
  return select(1.0, -1.0, ((bits ^ (bits >> 16u)) & 1u) == 1u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.y * groups.x + group.x;
  if (index >= p.rows) {
    return;
  }
  let at = x_offset() + index * DIM;
  for (var channel = lane; channel < DIM; channel += 64u) {
    let value = x[at + channel];
    row[channel] = select(value * sign_of(channel), value, p.inverse == 1u);
  }
  for (var distance = 1u; distance < DIM; distance *= 2u) {
    workgroupBarrier();
    for (var pair = lane; pair < DIM / 2u; pair += 64u) {
      let at = pair / distance * 2u * distance + pair % distance;
      let a = row[at];
      let b = row[at + distance];
      row[at] = a + b;
      row[at + distance] = a - b;
    }
  }
  workgroupBarrier();
  for (var channel = lane; channel < DIM; channel += 64u) {
    let value = row[channel] * p.factor;
    y[y_offset() + index * DIM + channel] = select(value, value * sign_of(channel), p.inverse == 1u);
  }
}
