//! Activation quantisation `q8-32`, shared by every integer kernel.
//!
//! Per 32 inputs: amax, d = amax / 127 (f32), q = RNE(x · (127 / amax)) in ±127, sums of the two 16-halves. A group with NaN or ∞ has
//! q = 0 and d = NaN, so every result that uses it is NaN.

use super::format::STEP;
use crate::pool::{for_rows, Pool};
use crate::simd::Simd;
use crate::simd_dispatch;
use crate::Cpu;

/// What a kernel needs of one token's group of 32 besides the codes.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct GroupMeta {
    pub d: f32,
    /// d · sum of the codes, multiplied with the weights' offsets.
    pub d_sum: f32,
    /// weight bias · sum of the codes of each half: the accumulators start there.
    pub start: [i32; 2],
}

pub struct Activations {
    /// [T, K] codes.
    pub codes: Vec<i8>,
    /// [T, K/32].
    pub meta: Vec<GroupMeta>,
}

impl Activations {
    /// Quantises x [T, K] for weights whose codes are biased by `bias`.
    pub fn quantize(x: &[f32], tokens: usize, k: usize, bias: i32, cpu: Cpu, pool: &dyn Pool) -> Self {
        let mut codes = vec![0i8; x.len()];
        let mut meta = vec![GroupMeta::default(); x.len() / STEP];
        let groups = k / STEP;
        let shared = crate::pool::Disjoint::new(&mut codes);
        for_rows(pool, &mut meta, tokens, 512, |first, meta| {
            let rows = meta.len() / groups;
            // SAFETY: each piece owns its own rows of the codes.
            let codes = unsafe { shared.part(first * k, rows * k) };
            quantize_rows(cpu, &x[first * k..(first + rows) * k], codes, meta, bias);
        });
        Self { codes, meta }
    }
}

fn quantize_rows(cpu: Cpu, x: &[f32], codes: &mut [i8], meta: &mut [GroupMeta], bias: i32) {
    simd_dispatch!(cpu, body(x: &[f32], codes: &mut [i8], meta: &mut [GroupMeta], bias: i32));
}

/// # Safety
/// As for [`Simd`]; plain loops that the compiler vectorises with the features of the path.
#[inline(always)]
#[allow(clippy::extra_unused_type_parameters)] // The type picks the path this is compiled for.
unsafe fn body<S: Simd>(x: &[f32], codes: &mut [i8], meta: &mut [GroupMeta], bias: i32) {
    for ((x, codes), meta) in x.chunks_exact(STEP).zip(codes.chunks_exact_mut(STEP)).zip(meta) {
        let mut lanes = [0f32; 8];
        // Adding x·0 turns NaN and ∞ into NaN without a branch per element.
        let mut poison = [0f32; 8];
        for chunk in x.chunks_exact(8) {
            for lane in 0..8 {
                let magnitude = chunk[lane].abs();
                lanes[lane] = if magnitude > lanes[lane] { magnitude } else { lanes[lane] };
                poison[lane] += chunk[lane] * 0.0;
            }
        }
        let amax = lanes.iter().fold(0f32, |a, &b| if b > a { b } else { a });
        if poison.iter().any(|value| value.is_nan()) {
            codes.fill(0);
            *meta = GroupMeta {
                d: f32::NAN,
                d_sum: f32::NAN,
                start: [0, 0],
            };
            continue;
        }
        let d = amax / 127.0;
        let inverse = if amax > 0.0 { 127.0 / amax } else { 0.0 };
        let inverse = if inverse.is_finite() { inverse } else { 0.0 };
        // 1.5 · 2^23 leaves the nearest-even integer in the low bits of the sum.
        let mut sums = [0i32; 2];
        for half in 0..2 {
            let mut sum = 0i32;
            for e in 16 * half..16 * half + 16 {
                let code = (x[e] * inverse + 12_582_912.0).to_bits() as i32 - 0x4B40_0000;
                codes[e] = code as i8;
                sum += code;
            }
            sums[half] = sum;
        }
        *meta = GroupMeta {
            d,
            d_sum: d * (sums[0] + sums[1]) as f32,
            start: [bias * sums[0], bias * sums[1]],
        };
    }
}
