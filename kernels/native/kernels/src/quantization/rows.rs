//! Reading blocks as they lie in GGUF files (ggml-org/ggml, src/ggml-common.h). Plain and scalar.

use super::format::{Scales, WeightType, STEP};
use half::{bf16, f16};

pub fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Six-bit scale and minimum t of a Q4_K or Q5_K super-block from its 12 scale bytes.
pub fn q4k_scales(bytes: &[u8], t: usize) -> (u8, u8) {
    if t < 4 {
        (bytes[t] & 63, bytes[t + 4] & 63)
    } else {
        (
            (bytes[t + 4] & 15) | ((bytes[t - 4] >> 6) << 4),
            (bytes[t + 4] >> 4) | ((bytes[t] >> 6) << 4),
        )
    }
}

/// Unsigned codes of the 32 inputs of `step`; level = code + [`WeightType::bias`].
pub fn step_codes(kind: WeightType, row: &[u8], step: usize) -> [u8; STEP] {
    let (elements, bytes) = kind.block();
    let block = &row[step * STEP / elements * bytes..][..bytes];
    let sub = step % (elements / STEP).max(1);
    std::array::from_fn(|e| {
        let nibble = |at: usize| if e < 16 { block[at + e] & 15 } else { block[at + e - 16] >> 4 };
        let fifth = |at: usize| ((block[at + e / 8] >> (e % 8)) & 1) << 4;
        match kind {
            WeightType::Q4_0 => nibble(2),
            WeightType::Q4_1 => nibble(4),
            WeightType::Q5_0 => nibble(6) | fifth(2),
            WeightType::Q5_1 => nibble(8) | fifth(4),
            WeightType::Q8_0 => block[2 + e] ^ 0x80,
            WeightType::Q4K => (block[16 + 32 * (sub / 2) + e] >> (4 * (sub % 2))) & 15,
            WeightType::Q5K => {
                let low = (block[48 + 32 * (sub / 2) + e] >> (4 * (sub % 2))) & 15;
                low | (((block[16 + e] >> sub) & 1) << 4)
            }
            WeightType::Q6K => {
                let (h, j) = (sub / 4, sub % 4);
                let low = block[64 * h + 32 * (j & 1) + e];
                let low = if j < 2 { low & 15 } else { low >> 4 };
                low | (((block[128 + 32 * h + e] >> (2 * j)) & 3) << 4)
            }
            WeightType::F32 | WeightType::F16 | WeightType::BF16 => 0,
        }
    })
}

/// Scale and offset of every 16 inputs of `step`: w = scale · level + offset.
pub fn step_scales(kind: WeightType, row: &[u8], step: usize) -> [(f32, f32); 2] {
    let (elements, bytes) = kind.block();
    let block = &row[step * STEP / elements * bytes..][..bytes];
    let both = |scale: f32, offset: f32| [(scale, offset); 2];
    match kind.scales() {
        Scales::Half => both(f16_at(block, 0), 0.0),
        Scales::HalfPair => both(f16_at(block, 0), f16_at(block, 2)),
        Scales::SuperPair => {
            let (scale, minimum) = q4k_scales(&block[4..16], step % 8);
            both(f16_at(block, 0) * f32::from(scale), -f16_at(block, 2) * f32::from(minimum))
        }
        Scales::SuperSigned => {
            let d = f16_at(block, 208);
            let scale = |i: usize| (d * f32::from(block[192 + 2 * (step % 8) + i] as i8), 0.0);
            [scale(0), scale(1)]
        }
        Scales::None => both(1.0, 0.0),
    }
}

/// One file row as f32 weights. `out.len()` is the number of inputs.
pub fn decode_row(kind: WeightType, row: &[u8], out: &mut [f32]) {
    match kind {
        WeightType::F32 => {
            for (value, bytes) in out.iter_mut().zip(row.chunks_exact(4)) {
                *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        }
        WeightType::F16 | WeightType::BF16 => {
            for (value, bytes) in out.iter_mut().zip(row.chunks_exact(2)) {
                let bits = u16::from_le_bytes([bytes[0], bytes[1]]);
                *value = if kind == WeightType::F16 {
                    f16::from_bits(bits).to_f32()
                } else {
                    bf16::from_bits(bits).to_f32()
                };
            }
        }
        _ => {
            for (step, values) in out.chunks_exact_mut(STEP).enumerate() {
                let codes = step_codes(kind, row, step);
                let scales = step_scales(kind, row, step);
                for (e, value) in values.iter_mut().enumerate() {
                    let (scale, offset) = scales[e / 16];
                    *value = scale.mul_add((i32::from(codes[e]) + kind.bias()) as f32, offset);
                }
            }
        }
    }
}
