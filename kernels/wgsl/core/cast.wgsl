// Values in another dtype. Contract: packages/core-tensor/src/ops/cast.ts. One invocation writes one word of y.

struct Parameters {
  x_offset: u32,
  y_offset: u32,
  pad0: u32,
  pad1: u32,
  words: u32,
  elements: u32,
  source: u32,
  result: u32,
}

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<uniform> p: Parameters;

// Elements of the source as the dtypes list numbers them: f32 f64 f16 bf16 i32 u32 i64 i8 u8 bool. Integers stay integers.
fn load_word(at: u32, bits: u32) -> u32 {
  let per_word = 32u / bits;
  let word = x[at / per_word];
  if (bits == 32u) {
    return word;
  }
  return (word >> (bits * (at % per_word))) & ((1u << bits) - 1u);
}

fn is_float(dtype: u32) -> bool {
  return dtype == 0u || dtype == 2u || dtype == 3u;
}

fn load_float(at: u32) -> f32 {
  switch p.source {
    case 0u: { return bitcast<f32>(load_word(at, 32u)); }
    case 2u: { return unpack2x16float(load_word(at, 16u)).x; }
    default: { return bitcast<f32>(load_word(at, 16u) << 16u); }
  }
}

fn load_integer(at: u32) -> u32 {
  switch p.source {
    case 4u, 5u: { return load_word(at, 32u); }
    case 7u: { return bitcast<u32>(bitcast<i32>(load_word(at, 8u) << 24u) >> 24u); }
    default: { return load_word(at, 8u); }
  }
}

fn round_bf16(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

// Largest finite f16 is 65504; values from 65520 on round to infinity, which pack2x16float need not do.
fn round_f16(value: f32) -> u32 {
  if (abs(value) >= 65520.0) {
    return select(0x7c00u, 0xfc00u, value < 0.0);
  }
  let magnitude = bitcast<u32>(abs(value));
  let sign = (bitcast<u32>(value) >> 16u) & 0x8000u;
  if (abs(value) < 6.103515625e-05) {
    // Subnormal halves: multiples of 2^-24, rounded to even by adding 1.5 * 2^23 * 2^-24.
    return sign | (bitcast<u32>(abs(value) + 0.5) - bitcast<u32>(0.5f));
  }
  let rebiased = magnitude - 0x38000000u;
  return sign | ((rebiased + 0xfffu + ((rebiased >> 13u) & 1u)) >> 13u);
}

fn from_float(value: f32) -> u32 {
  switch p.result {
    case 0u: { return bitcast<u32>(value); }
    case 2u: { return round_f16(value); }
    case 3u: { return round_bf16(value); }
    case 4u: { return bitcast<u32>(select(i32(clamp(value, -2147483648.0, 2147483520.0)), 2147483647, value >= 2147483648.0)); }
    case 5u: { return select(u32(clamp(value, 0.0, 4294967040.0)), 4294967295u, value >= 4294967296.0); }
    case 7u: { return bitcast<u32>(i32(clamp(value, -128.0, 127.0))) & 255u; }
    case 8u: { return u32(clamp(value, 0.0, 255.0)); }
    default: { return u32(value != 0.0); }
  }
}

fn from_integer(value: u32) -> u32 {
  let signed = p.source == 4u || p.source == 7u;
  let number = bitcast<i32>(value);
  let negative = signed && number < 0;
  switch p.result {
    case 0u, 2u, 3u: {
      let wide = select(f32(value), f32(number), signed);
      return from_float(wide);
    }
    case 4u: { return select(min(value, 2147483647u), value, signed); }
    case 5u: { return select(value, 0u, negative); }
    case 7u: { return select(min(value, 127u), bitcast<u32>(max(number, -128)) & 255u, negative); }
    case 8u: { return select(min(value, 255u), 0u, negative); }
    default: { return u32(value != 0u); }
  }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= p.words) {
    return;
  }
  let bits = select(select(8u, 16u, p.result == 2u || p.result == 3u), 32u, p.result == 0u || p.result == 4u || p.result == 5u);
  let per_word = 32u / bits;
  var word = 0u;
  for (var part = 0u; part < per_word; part++) {
    let at = index * per_word + part;
    if (at >= p.elements) {
      break;
    }
    var value: u32;
    if (is_float(p.source)) {
      value = from_float(load_float(p.x_offset + at));
    } else {
      value = from_integer(load_integer(p.x_offset + at));
    }
    word |= value << (bits * part);
  }
  y[p.y_offset / per_word + index] = word;
}
