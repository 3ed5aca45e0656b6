//! Activation quantisation `q8-32`, shared by every integer kernel.
//!
//! Per 32 inputs: amax, d = amax / 127 (f32), q = RNE(x · (127 / amax)) in ±127, sums of the two 16-halves. A group with NaN or ∞ has
//! q = 0 and d = NaN, so every result that uses it is NaN.

use super::format::STEP;
use crate::pool::{for_rows, Pool};
use crate::Cpu;
use std::cell::Cell;

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

impl GroupMeta {
    /// The group of a bias of 1 for another bias.
    fn biased(&self, bias: i32) -> Self {
        Self {
            start: self.start.map(|sum| bias * sum),
            ..*self
        }
    }
}

#[derive(Default)]
pub struct Activations {
    /// [T, K] codes.
    pub codes: Vec<i8>,
    /// [T, K/32] for each of the biases asked for, in their order.
    metas: Vec<Vec<GroupMeta>>,
}

thread_local! {
    /// Kept between calls of a thread: a fresh allocation of this size costs more in page faults than what is written to it.
    static SCRATCH: Cell<Activations> = Cell::default();
}

impl Activations {
    /// Quantises x [T, K] once for weights whose codes are biased by `biases` (at least one).
    pub fn quantize(x: &[f32], tokens: usize, k: usize, biases: &[i32], cpu: Cpu, pool: &dyn Pool) -> Self {
        let Self { mut codes, mut metas } = SCRATCH.take();
        codes.resize(x.len(), 0);
        metas.resize_with(biases.len().max(metas.len()), Vec::new);
        let groups = k / STEP;
        let shared = crate::pool::Disjoint::new(&mut codes);
        let (first_meta, others) = metas.split_at_mut(1);
        let meta = &mut first_meta[0];
        meta.resize(x.len() / STEP, GroupMeta::default());
        // Sums of codes stay as they are until every bias has taken them.
        let plain = biases.len() > 1;
        let bias = if plain { 1 } else { biases[0] };
        for_rows(pool, meta, tokens, 512, |first, meta| {
            let rows = meta.len() / groups;
            // SAFETY: each piece owns its own rows of the codes.
            let codes = unsafe { shared.part(first * k, rows * k) };
            quantize_rows(cpu, &x[first * k..(first + rows) * k], codes, meta, bias);
        });
        if plain {
            for (other, &bias) in others.iter_mut().zip(&biases[1..]) {
                other.clear();
                other.extend(meta.iter().map(|group| group.biased(bias)));
            }
            for group in meta.iter_mut() {
                *group = group.biased(biases[0]);
            }
        }
        Self { codes, metas }
    }

    /// [T, K/32] for the bias at `index` of those asked for.
    pub fn meta(&self, index: usize) -> &[GroupMeta] {
        &self.metas[index]
    }

    /// Gives the memory back for the next call of this thread.
    pub fn keep(self) {
        SCRATCH.set(self);
    }
}

fn quantize_rows(cpu: Cpu, x: &[f32], codes: &mut [i8], meta: &mut [GroupMeta], bias: i32) {
    let groups = x.chunks_exact(STEP).zip(codes.chunks_exact_mut(STEP)).zip(meta);
    match cpu {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a Cpu value above Scalar only exists where detection found the features; groups have 32 elements.
        Cpu::Avx512 => groups.for_each(|((x, codes), meta)| *meta = unsafe { x86::group512(x, codes, bias) }),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Cpu::Avx2 => groups.for_each(|((x, codes), meta)| *meta = unsafe { x86::group256(x, codes, bias) }),
        _ => groups.for_each(|((x, codes), meta)| *meta = group(x, codes, bias)),
    }
}

/// A group that cannot be scaled: every result that uses it is NaN.
const POISON: GroupMeta = GroupMeta {
    d: f32::NAN,
    d_sum: f32::NAN,
    start: [0, 0],
};

/// What codes are multiplied with, and inputs to get codes.
fn scales(amax: f32) -> (f32, f32) {
    let inverse = if amax > 0.0 { 127.0 / amax } else { 0.0 };
    (amax / 127.0, if inverse.is_finite() { inverse } else { 0.0 })
}

fn meta_of(d: f32, sums: [i32; 2], bias: i32) -> GroupMeta {
    GroupMeta {
        d,
        d_sum: d * (sums[0] + sums[1]) as f32,
        start: [bias * sums[0], bias * sums[1]],
    }
}

/// One group without SIMD; what the vector forms repeat, bit for bit.
fn group(x: &[f32], codes: &mut [i8], bias: i32) -> GroupMeta {
    if x.iter().any(|value| !value.is_finite()) {
        codes.fill(0);
        return POISON;
    }
    let (d, inverse) = scales(x.iter().fold(0f32, |a, &b| a.max(b.abs())));
    let mut sums = [0i32; 2];
    for (e, (code, &value)) in codes.iter_mut().zip(x).enumerate() {
        // 1.5 · 2^23 leaves the nearest-even integer in the low bits of the sum.
        let level = (value * inverse + 12_582_912.0).to_bits() as i32 - 0x4B40_0000;
        *code = level as i8;
        sums[e / 16] += level;
    }
    meta_of(d, sums, bias)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{meta_of, scales, GroupMeta, POISON};
    use std::arch::x86_64::*;

    /// # Safety
    /// The CPU has AVX-512 F, BW, VL and DQ; x and codes have 32 elements.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    pub unsafe fn group512(x: &[f32], codes: &mut [i8], bias: i32) -> GroupMeta {
        debug_assert!(x.len() == 32 && codes.len() == 32);
        let halves = [_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(16))];
        let magnitude = _mm512_max_ps(_mm512_abs_ps(halves[0]), _mm512_abs_ps(halves[1]));
        // NaN, ±∞.
        const SPECIAL: i32 = 0x99;
        if (_mm512_fpclass_ps_mask::<SPECIAL>(halves[0]) | _mm512_fpclass_ps_mask::<SPECIAL>(halves[1])) != 0 {
            codes.fill(0);
            return POISON;
        }
        let (d, inverse) = scales(_mm512_reduce_max_ps(magnitude));
        let mut sums = [0i32; 2];
        for half in 0..2 {
            let levels = _mm512_cvtps_epi32(_mm512_mul_ps(halves[half], _mm512_set1_ps(inverse)));
            _mm_storeu_si128(codes.as_mut_ptr().add(16 * half).cast(), _mm512_cvtepi32_epi8(levels));
            sums[half] = _mm512_reduce_add_epi32(levels);
        }
        meta_of(d, sums, bias)
    }

    /// # Safety
    /// The CPU has AVX2; x and codes have 32 elements.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn group256(x: &[f32], codes: &mut [i8], bias: i32) -> GroupMeta {
        debug_assert!(x.len() == 32 && codes.len() == 32);
        let mut parts = [_mm256_setzero_ps(); 4];
        let mut magnitude = _mm256_setzero_ps();
        let mut special = _mm256_setzero_ps();
        for part in 0..4 {
            parts[part] = _mm256_loadu_ps(x.as_ptr().add(8 * part));
            let absolute = _mm256_andnot_ps(_mm256_set1_ps(-0.0), parts[part]);
            magnitude = _mm256_max_ps(magnitude, absolute);
            // True for ∞ and NaN.
            special = _mm256_or_ps(special, _mm256_cmp_ps::<_CMP_NLT_UQ>(absolute, _mm256_set1_ps(f32::INFINITY)));
        }
        if _mm256_movemask_ps(special) != 0 {
            codes.fill(0);
            return POISON;
        }
        let four = _mm_max_ps(_mm256_castps256_ps128(magnitude), _mm256_extractf128_ps::<1>(magnitude));
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        let (d, inverse) = scales(_mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two))));
        let mut sums = [0i32; 2];
        for half in 0..2 {
            let level = |part: usize| _mm256_cvtps_epi32(_mm256_mul_ps(parts[part], _mm256_set1_ps(inverse)));
            let (low, high) = (level(2 * half), level(2 * half + 1));
            // Packing works within 128-bit lanes: the dwords come out as 0 2 1 3.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high));
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(codes.as_mut_ptr().add(16 * half).cast(), bytes);
            let sum = _mm256_add_epi32(low, high);
            let four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
            sums[half] = _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)));
        }
        meta_of(d, sums, bias)
    }
}
