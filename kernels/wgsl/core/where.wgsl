// y = condition ? a : b. Contract: packages/core-tensor/src/ops/where.ts. 13 bytes an element.

struct Parameters {
  condition_offset: u32,
  a_offset: u32,
  b_offset: u32,
  y_offset: u32,
  count: u32,
}

@group(0) @binding(0) var<storage, read> condition: array<u32>;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<uniform> p: Parameters;

// bool is one byte an element; its offset counts bytes.
fn flag(index: u32) -> bool {
  let at = p.condition_offset + index;
  return ((condition[at / 4u] >> (8u * (at % 4u))) & 255u) != 0u;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.count) {
    return;
  }
  y[p.y_offset + index] = select(b[p.b_offset + index], a[p.a_offset + index], flag(index));
}
