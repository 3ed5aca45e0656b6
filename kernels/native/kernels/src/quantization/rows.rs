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

/// Scale t of Q3_K's sixteen, 32 too large, from its 12 scale bytes.
fn q3k_scale(bytes: &[u8], t: usize) -> u8 {
    let low = if t < 8 { bytes[t] & 15 } else { bytes[t - 8] >> 4 };
    low | (((bytes[8 + (t & 3)] >> (2 * (t >> 2))) & 3) << 4)
}

/// Signed scale t of IQ4_XS's eight.
fn iq4xs_scale(block: &[u8], t: usize) -> i8 {
    let low = (block[4 + t / 2] >> (4 * (t % 2))) & 15;
    let high = (u16::from_le_bytes([block[2], block[3]]) >> (2 * t)) & 3;
    (low | (high as u8) << 4) as i8 - 32
}

/// Unsigned E4M3 halved, as NVFP4 scales its levels; 0x7F stands for 0.
fn half_of_e4m3(byte: u8) -> f16 {
    let bits = if byte == 0x7F { 0 } else { u16::from(byte & 0x7F) << 7 };
    // The exponent of f16 is 8 higher.
    f16::from_f32(f16::from_bits(bits).to_f32() * 128.0)
}

/// 2^(e − 128), of which the smallest two are subnormal.
pub fn exponent_scale(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 })
}

/// Ternary digit of element e of TQ1_0: five to a byte, as fractions of 256.
fn ternary_digit(block: &[u8], e: usize) -> u8 {
    const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
    let (byte, digit) = match e {
        0..160 => (block[e % 32], e / 32),
        160..240 => (block[32 + (e - 160) % 16], (e - 160) / 16),
        _ => (block[48 + (e - 240) % 4], (e - 240) / 4),
    };
    ((u16::from(byte.wrapping_mul(POWERS[digit])) * 3) >> 8) as u8
}

/// Codes of the 32 inputs of `step` as tiles store them; level = [`WeightType::decode`] + [`WeightType::bias`].
pub fn step_codes(kind: WeightType, row: &[u8], step: usize) -> [u8; STEP] {
    let (elements, bytes) = kind.block();
    let block = &row[step * STEP / elements * bytes..][..bytes];
    let sub = step % (elements / STEP).max(1);
    std::array::from_fn(|e| {
        let nibble = |at: usize| if e < 16 { block[at + e] & 15 } else { block[at + e - 16] >> 4 };
        let fifth = |at: usize| ((block[at + e / 8] >> (e % 8)) & 1) << 4;
        let pair = |at: usize| (block[at + 32 * (sub / 4) + e] >> (2 * (sub % 4))) & 3;
        match kind {
            WeightType::Q4_0 | WeightType::Iq4Nl => nibble(2),
            WeightType::Q4_1 => nibble(4),
            WeightType::Q5_0 => nibble(6) | fifth(2),
            WeightType::Q5_1 => nibble(8) | fifth(4),
            WeightType::Q8_0 => block[2 + e] ^ 0x80,
            WeightType::Mxfp4 => nibble(1),
            WeightType::Nvfp4 => {
                let byte = block[4 + 16 * sub + 8 * (e / 16) + e % 8];
                if e % 16 < 8 {
                    byte & 15
                } else {
                    byte >> 4
                }
            }
            WeightType::Iq4Xs => nibble(8 + 16 * sub),
            WeightType::Q1_0 => (block[2 + 4 * sub + e / 8] >> (e % 8)) & 1,
            WeightType::Q2_0 => (block[2 + 8 * sub + e / 4] >> (2 * (e % 4))) & 3,
            WeightType::Tq1 => ternary_digit(block, 32 * sub + e),
            WeightType::Tq2 => pair(0),
            WeightType::Q2K => pair(16),
            WeightType::Q3K => pair(32) | (((block[e] >> sub) & 1) << 2),
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
            WeightType::Int2(_) => (block[8 + 8 * sub + e / 4] >> (2 * (e % 4))) & 3,
            WeightType::Int3(_) => {
                let low = (block[8 + 12 * sub + e / 4] >> (2 * (e % 4))) & 3;
                low | (((block[16 + 12 * sub + e / 8] >> (e % 8)) & 1) << 2)
            }
            WeightType::Int4(_) => nibble(8 + 16 * sub),
            WeightType::Int8(_) => block[8 + 32 * sub + e],
            WeightType::Nf4(_) | WeightType::Bnb4(_) => nibble(4 + 16 * sub),
            WeightType::E4m3(_) | WeightType::E5m2(_) => block[4 + 32 * sub + e],
            WeightType::F32 | WeightType::F16 | WeightType::BF16 => 0,
        }
    })
}

/// The fields of a block that scale the 32 inputs of a step: what a tile holds of them.
pub struct StepScales {
    /// f16 bits: of the step's two halves, or scale and offset, or of the super-block.
    pub halves: [u16; 2],
    /// f32 scale and offset of a group, in the types that have them.
    pub floats: [f32; 2],
    /// Small integers per half of the step; [0] holds for both where a type has one scale per step.
    pub small: [[u8; 2]; 2],
}

/// Reads what scales `step`. `small` is `[scale, minimum]` per half; signed scales are bytes in two's complement.
pub fn step_fields(kind: WeightType, row: &[u8], step: usize) -> StepScales {
    let (elements, bytes) = kind.block();
    let block = &row[step * STEP / elements * bytes..][..bytes];
    let sub = step % (elements / STEP).max(1);
    let half = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
    let float = |at: usize| f32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    let one = |scale: u8| [[scale, 0]; 2];
    let (halves, small) = match kind {
        WeightType::F32 | WeightType::F16 | WeightType::BF16 => ([0, 0], one(0)),
        WeightType::Q4_0 | WeightType::Q5_0 | WeightType::Q8_0 | WeightType::Iq4Nl => ([half(0), 0], one(0)),
        WeightType::Int2(_) | WeightType::Int3(_) | WeightType::Int4(_) | WeightType::Int8(_) => ([0, 0], one(0)),
        WeightType::Nf4(_) | WeightType::Bnb4(_) | WeightType::E4m3(_) | WeightType::E5m2(_) => ([0, 0], one(0)),
        WeightType::Q1_0 | WeightType::Q2_0 => ([half(0), 0], one(0)),
        WeightType::Q4_1 | WeightType::Q5_1 => ([half(0), half(2)], one(0)),
        WeightType::Tq1 => ([half(52), 0], one(0)),
        WeightType::Tq2 => ([half(64), 0], one(0)),
        WeightType::Mxfp4 => ([0, 0], one(block[0])),
        WeightType::Nvfp4 => ([0, 1].map(|i| half_of_e4m3(block[2 * sub + i]).to_bits()), one(0)),
        WeightType::Q4K | WeightType::Q5K => {
            let (scale, minimum) = q4k_scales(&block[4..16], sub);
            ([half(0), half(2)], [[scale, minimum]; 2])
        }
        WeightType::Q2K => {
            let pair = |i: usize| [block[2 * sub + i] & 15, block[2 * sub + i] >> 4];
            ([half(80), half(82)], [pair(0), pair(1)])
        }
        WeightType::Q3K => {
            let scale = |i: usize| [q3k_scale(&block[96..108], 2 * sub + i).wrapping_sub(32), 0];
            ([half(108), 0], [scale(0), scale(1)])
        }
        WeightType::Q6K => ([half(208), 0], [0, 1].map(|i| [block[192 + 2 * sub + i], 0])),
        WeightType::Iq4Xs => ([half(0), 0], one(iq4xs_scale(block, sub) as u8)),
    };
    let floats = match kind.scales() {
        Scales::FloatPair => [float(0), float(4)],
        Scales::FloatOne => [float(0), 0.0],
        _ => [0.0; 2],
    };
    StepScales { halves, floats, small }
}

/// Scale and offset of every 16 inputs of a step: w = scale · level + offset.
pub fn factors(kind: WeightType, StepScales { halves, floats, small }: StepScales) -> [(f32, f32); 2] {
    let [d, m] = halves.map(|bits| f16::from_bits(bits).to_f32());
    let of_half = |i: usize| {
        let [scale, minimum] = small[i];
        match kind.scales() {
            Scales::None => (1.0, 0.0),
            Scales::FloatPair | Scales::FloatOne => (floats[0], floats[1]),
            Scales::Half | Scales::Shared => (d, 0.0),
            Scales::HalfPair => (d, m),
            Scales::HalfTwice => ([d, m][i], 0.0),
            Scales::Exponent => (exponent_scale(scale), 0.0),
            Scales::SuperPair | Scales::SuperPairTwice => (d * f32::from(scale), -m * f32::from(minimum)),
            Scales::SuperSigned | Scales::SuperSignedTwice => (d * f32::from(scale as i8), 0.0),
        }
    };
    [of_half(0), of_half(1)]
}

/// What a stored code stands for, before it is scaled.
pub fn level(kind: WeightType, code: u8) -> f32 {
    if kind.takes_floats() {
        kind.float_level(code)
    } else {
        (i32::from(kind.decode(code)) + kind.bias()) as f32
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
                let scales = factors(kind, step_fields(kind, row, step));
                for (e, value) in values.iter_mut().enumerate() {
                    let (scale, offset) = scales[e / 16];
                    *value = scale.mul_add(level(kind, codes[e]), offset);
                }
            }
        }
    }
}
