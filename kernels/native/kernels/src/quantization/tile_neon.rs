//! Integer path on baseline NEON; arithmetic as in `tile_scalar`, bit for bit.
//!
//! A step's codes are decoded once to bytes, four rows × four inputs a vector; per token and vector two widening multiplies and two pairwise
//! accumulations, then one conversion, one multiply and one or two FMA for four rows.

use super::activations::GroupMeta;
use super::format::{Codes, TileLayout, WeightType, FP4, NONLINEAR, STEP, TILE_ROWS};
use super::panel::tile_scales;
use std::arch::aarch64::*;

/// Vectors of four rows in a tile.
const QUADS: usize = TILE_ROWS / 4;

/// Signed levels (of wide types) or unsigned codes below 64 of one step: [input vector][rows].
///
/// # Safety
/// `codes` points to the step's `kind.code_bytes()` bytes.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn decode(kind: WeightType, codes: *const u8) -> [[int8x16_t; QUADS]; 8] {
    let load = |plane: usize, quad: usize| vld1q_u8(codes.add(64 * plane + 16 * quad));
    let pattern = {
        let bits = [1u8, 2, 4, 8, 16, 32, 64, 128];
        vcombine_u8(vld1_u8(bits.as_ptr()), vld1_u8(bits.as_ptr()))
    };
    // 255 where the bit of the byte is set, of the words from byte `at`.
    let bits = |at: usize, c: usize, quad: usize| {
        let word = codes.add(at + 8 * c + 2 * quad);
        vtstq_u8(vcombine_u8(vdup_n_u8(*word), vdup_n_u8(*word.add(1))), pattern)
    };
    let pairs = |plane: usize, c: usize, quad: usize| {
        let shift = vdupq_n_s8(-2 * (c & 3) as i8);
        vandq_u8(vshlq_u8(load(plane + (c >> 2), quad), shift), vdupq_n_u8(3))
    };
    let mut out = [[vdupq_n_s8(0); QUADS]; 8];
    for c in 0..8 {
        for quad in 0..QUADS {
            let nibble = || {
                let plane = load(c & 3, quad);
                if c < 4 {
                    vandq_u8(plane, vdupq_n_u8(15))
                } else {
                    vshrq_n_u8::<4>(plane)
                }
            };
            let signed = |bytes: uint8x16_t| veorq_u8(bytes, vdupq_n_u8(0x80));
            let code = match kind.codes() {
                Codes::Eight | Codes::FloatBytes => signed(load(c, quad)),
                Codes::Nonlinear => signed(vqtbl1q_u8(vld1q_u8(NONLINEAR.as_ptr()), nibble())),
                Codes::Fp4 => vqtbl1q_u8(vld1q_u8(FP4.as_ptr()), nibble()),
                Codes::One => vandq_u8(bits(0, c, quad), vdupq_n_u8(2)),
                Codes::Two => pairs(0, c, quad),
                Codes::Three => vorrq_u8(pairs(0, c, quad), vandq_u8(bits(128, c, quad), vdupq_n_u8(4))),
                Codes::Five => vorrq_u8(nibble(), vandq_u8(bits(256, c, quad), vdupq_n_u8(16))),
                Codes::Six => vorrq_u8(nibble(), vshlq_n_u8::<4>(pairs(4, c, quad))),
                Codes::Four | Codes::Float | Codes::FloatNibbles => nibble(),
            };
            out[c][quad] = vreinterpretq_s8_u8(code);
        }
    }
    out
}

/// Σ over four input vectors of codes · q for four rows.
#[inline]
#[target_feature(enable = "neon")]
fn dot(weights: &[[int8x16_t; QUADS]], quad: usize, q: &[int8x16_t]) -> int32x4_t {
    let (mut low, mut high) = (vdupq_n_s32(0), vdupq_n_s32(0));
    for (w, &q) in weights.iter().zip(q) {
        low = vpadalq_s16(low, vmull_s8(vget_low_s8(w[quad]), vget_low_s8(q)));
        high = vpadalq_s16(high, vmull_high_s8(w[quad], q));
    }
    vpaddq_s32(low, high)
}

pub fn tile<const NT: usize>(
    layout: &TileLayout,
    tile: &[u8],
    codes: &[i8],
    meta: &[GroupMeta],
    acc: &mut [[f32; TILE_ROWS]; NT],
) {
    // SAFETY: NEON is part of the target; the slices are checked where they are cut.
    unsafe { body(layout, tile, codes, meta, acc) }
}

#[target_feature(enable = "neon")]
unsafe fn body<const NT: usize>(
    layout: &TileLayout,
    tile: &[u8],
    codes: &[i8],
    meta: &[GroupMeta],
    acc: &mut [[f32; TILE_ROWS]; NT],
) {
    let kind = layout.kind;
    for step in 0..layout.steps {
        let at = layout.codes + step * kind.code_bytes();
        let weights = decode(kind, tile[at..at + kind.code_bytes()].as_ptr());
        let scales = tile_scales(layout, tile, step);
        for t in 0..NT {
            let group = meta[t * layout.steps + step];
            let step_codes = &codes[t * layout.k + step * STEP..][..STEP];
            let mut q = [vdupq_n_s8(0); 8];
            for (vector, four) in q.iter_mut().zip(step_codes.chunks_exact(4)) {
                let word = u32::from_le_bytes([four[0] as u8, four[1] as u8, four[2] as u8, four[3] as u8]);
                *vector = vreinterpretq_s8_u32(vdupq_n_u32(word));
            }
            // Wide types multiply signed levels, so they have no bias to take back.
            let biased = !kind.wide() && kind.bias() != 0;
            let start = if biased { group.start } else { [0, 0] };
            let d = vdupq_n_f32(group.d);
            for quad in 0..QUADS {
                let first = vaddq_s32(dot(&weights[..4], quad, &q[..4]), vdupq_n_s32(start[0]));
                let last = vaddq_s32(dot(&weights[4..], quad, &q[4..]), vdupq_n_s32(start[1]));
                let scale = |half: usize| {
                    let rows: [f32; 4] = std::array::from_fn(|r| scales[half][4 * quad + r].0);
                    vld1q_f32(rows.as_ptr())
                };
                let offset = |half: usize| {
                    let rows: [f32; 4] = std::array::from_fn(|r| scales[half][4 * quad + r].1);
                    vld1q_f32(rows.as_ptr())
                };
                let out = acc[t][4 * quad..].as_mut_ptr();
                let mut sum = vld1q_f32(out);
                if kind.scales_halves() {
                    sum = vfmaq_f32(sum, scale(0), vmulq_f32(vcvtq_f32_s32(first), d));
                    sum = vfmaq_f32(sum, scale(1), vmulq_f32(vcvtq_f32_s32(last), d));
                    if kind.has_offset() {
                        let d_sum = |half: usize| vdupq_n_f32(group.start[half] as f32 * group.d);
                        sum = vfmaq_f32(sum, offset(0), d_sum(0));
                        sum = vfmaq_f32(sum, offset(1), d_sum(1));
                    }
                } else {
                    let dot = vcvtq_f32_s32(vaddq_s32(first, last));
                    sum = vfmaq_f32(sum, scale(0), vmulq_f32(dot, d));
                    if kind.has_offset() {
                        sum = vfmaq_f32(sum, offset(0), vdupq_n_f32(group.d_sum));
                    }
                }
                vst1q_f32(out, sum);
            }
        }
    }
}
