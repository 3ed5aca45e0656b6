// GGUF blocks read from words: value(type, block byte offset, element). Layouts: ggml-org/ggml, src/ggml-common.h.
// The module that includes this declares `weight_word(index) -> u32`.

fn weight_byte(at: u32) -> u32 {
  return (weight_word(at / 4u) >> (8u * (at % 4u))) & 255u;
}

fn weight_half(at: u32) -> f32 {
  return unpack2x16float(weight_byte(at) | (weight_byte(at + 1u) << 8u)).x;
}

fn weight_u32(at: u32) -> u32 {
  return weight_byte(at) | (weight_byte(at + 1u) << 8u) | (weight_byte(at + 2u) << 16u) | (weight_byte(at + 3u) << 24u);
}

fn signed_byte(byte: u32) -> i32 {
  return bitcast<i32>(byte << 24u) >> 24u;
}

// Nibble of element e of 32: low nibbles hold the first 16.
fn nibble32(at: u32, e: u32) -> u32 {
  return (weight_byte(at + (e & 15u)) >> (4u * (e >> 4u))) & 15u;
}

// Six-bit scale (x) and minimum (y) t of a Q4_K or Q5_K super-block.
fn scale_and_minimum(at: u32, t: u32) -> vec2u {
  if (t < 4u) {
    return vec2u(weight_byte(at + t) & 63u, weight_byte(at + t + 4u) & 63u);
  }
  let low = weight_byte(at + t + 4u);
  return vec2u((low & 15u) | ((weight_byte(at + t - 4u) >> 6u) << 4u), (low >> 4u) | ((weight_byte(at + t) >> 6u) << 4u));
}

// Level (x), scale (y) and offset (z) of element e of the block at byte `at`: weight = scale * level + offset.
fn weight_parts(kind: u32, at: u32, e: u32) -> vec3f {
  switch kind {
    case 0u: { return vec3f(bitcast<f32>(weight_u32(at)), 1.0, 0.0); }
    case 1u: { return vec3f(weight_half(at), 1.0, 0.0); }
    case 30u: { return vec3f(bitcast<f32>((weight_byte(at) << 16u) | (weight_byte(at + 1u) << 24u)), 1.0, 0.0); }
    case 2u: { return vec3f(f32(nibble32(at + 2u, e)) - 8.0, weight_half(at), 0.0); }
    case 3u: { return vec3f(f32(nibble32(at + 4u, e)), weight_half(at), weight_half(at + 2u)); }
    case 6u: {
      let fifth = (weight_byte(at + 2u + (e >> 3u)) >> (e & 7u)) & 1u;
      return vec3f(f32(nibble32(at + 6u, e) | (fifth << 4u)) - 16.0, weight_half(at), 0.0);
    }
    case 7u: {
      let fifth = (weight_byte(at + 4u + (e >> 3u)) >> (e & 7u)) & 1u;
      return vec3f(f32(nibble32(at + 8u, e) | (fifth << 4u)), weight_half(at), weight_half(at + 2u));
    }
    case 8u: { return vec3f(f32(signed_byte(weight_byte(at + 2u + e))), weight_half(at), 0.0); }
    case 12u: {
      let pair = scale_and_minimum(at + 4u, e >> 5u);
      let byte = weight_byte(at + 16u + 32u * (e >> 6u) + (e & 31u));
      let code = (byte >> (4u * ((e >> 5u) & 1u))) & 15u;
      return vec3f(f32(code), weight_half(at) * f32(pair.x), -weight_half(at + 2u) * f32(pair.y));
    }
    case 13u: {
      let pair = scale_and_minimum(at + 4u, e >> 5u);
      let low = (weight_byte(at + 48u + 32u * (e >> 6u) + (e & 31u)) >> (4u * ((e >> 5u) & 1u))) & 15u;
      let high = (weight_byte(at + 16u + (e & 31u)) >> (e >> 5u)) & 1u;
      return vec3f(f32(low | (high << 4u)), weight_half(at) * f32(pair.x), -weight_half(at + 2u) * f32(pair.y));
    }
    default: {
      let h = e >> 7u;
      let j = (e >> 5u) & 3u;
      let l = e & 31u;
      let low = (weight_byte(at + 64u * h + 32u * (j & 1u) + l) >> (4u * (j >> 1u))) & 15u;
      let high = (weight_byte(at + 128u + 32u * h + l) >> (2u * j)) & 3u;
      let scale = f32(signed_byte(weight_byte(at + 192u + (e >> 4u))));
      return vec3f(f32(low | (high << 4u)) - 32.0, weight_half(at + 208u) * scale, 0.0);
    }
  }
}
