//! Products of small whole numbers: four codes of a lane with the four that all lanes share, summed in i32.

use crate::simd::{Scalar, Simd};

/// Vectors of i32 beside those of f32.
///
/// # Safety
/// As for [`Simd`]; codes are four signed bytes a lane of magnitude at most 127, `OFFSET` added to those in lanes.
pub unsafe trait Dots: Simd {
    type I: Copy;
    /// Added to codes in lanes, which are then unsigned: what is summed is too large by OFFSET · Σ of the shared codes.
    const OFFSET: i32;
    unsafe fn splat_i32(x: i32) -> Self::I;
    unsafe fn load_codes(p: *const i8) -> Self::I;
    /// sum + Σ a·b over four codes.
    unsafe fn dot(sum: Self::I, a: Self::I, b: i32) -> Self::I;
    unsafe fn to_f32(x: Self::I) -> Self::V;
}

// SAFETY: plain arithmetic on four bytes the caller vouches for.
unsafe impl Dots for Scalar {
    type I = i32;
    const OFFSET: i32 = 0;
    #[inline(always)]
    unsafe fn splat_i32(x: i32) -> i32 {
        x
    }
    #[inline(always)]
    unsafe fn load_codes(p: *const i8) -> i32 {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<i32>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn dot(sum: i32, a: i32, b: i32) -> i32 {
        let products = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
        products.fold(sum, |sum, (a, b)| sum + i32::from(a as i8) * i32::from(b as i8))
    }
    #[inline(always)]
    unsafe fn to_f32(x: i32) -> f32 {
        x as f32
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Dots;
    use crate::simd::{Avx2, Avx512};
    use std::arch::x86_64::*;

    // SAFETY: AVX-512 VNNI is part of the path.
    unsafe impl Dots for Avx512 {
        type I = __m512i;
        const OFFSET: i32 = 128;
        #[inline(always)]
        unsafe fn splat_i32(x: i32) -> __m512i {
            _mm512_set1_epi32(x)
        }
        #[inline(always)]
        unsafe fn load_codes(p: *const i8) -> __m512i {
            _mm512_loadu_si512(p.cast())
        }
        #[inline(always)]
        unsafe fn dot(sum: __m512i, a: __m512i, b: i32) -> __m512i {
            _mm512_dpbusd_epi32(sum, a, _mm512_set1_epi32(b))
        }
        #[inline(always)]
        unsafe fn to_f32(x: __m512i) -> __m512 {
            _mm512_cvtepi32_ps(x)
        }
    }

    // SAFETY: AVX2 is part of the path.
    unsafe impl Dots for Avx2 {
        type I = __m256i;
        const OFFSET: i32 = 0;
        #[inline(always)]
        unsafe fn splat_i32(x: i32) -> __m256i {
            _mm256_set1_epi32(x)
        }
        #[inline(always)]
        unsafe fn load_codes(p: *const i8) -> __m256i {
            _mm256_loadu_si256(p.cast())
        }
        #[inline(always)]
        unsafe fn dot(sum: __m256i, a: __m256i, b: i32) -> __m256i {
            // |b| · (a with the sign of b): 2 · 127 · 127 fits into 16 bits.
            let b = _mm256_set1_epi32(b);
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(b), _mm256_sign_epi8(a, b));
            _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
        #[inline(always)]
        unsafe fn to_f32(x: __m256i) -> __m256 {
            _mm256_cvtepi32_ps(x)
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use super::Dots;
    use crate::simd::Neon;
    use std::arch::aarch64::*;

    // SAFETY: NEON is part of the target.
    unsafe impl Dots for Neon {
        type I = int32x4_t;
        const OFFSET: i32 = 0;
        #[inline(always)]
        unsafe fn splat_i32(x: i32) -> int32x4_t {
            vdupq_n_s32(x)
        }
        #[inline(always)]
        unsafe fn load_codes(p: *const i8) -> int32x4_t {
            vreinterpretq_s32_s8(vld1q_s8(p))
        }
        #[inline(always)]
        unsafe fn dot(sum: int32x4_t, a: int32x4_t, b: i32) -> int32x4_t {
            let (a, b) = (vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(vdupq_n_s32(b)));
            let low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
            let high = vpaddlq_s16(vmull_high_s8(a, b));
            vaddq_s32(sum, vpaddq_s32(low, high))
        }
        #[inline(always)]
        unsafe fn to_f32(x: int32x4_t) -> float32x4_t {
            vcvtq_f32_s32(x)
        }
    }
}

/// sums[key][lane] = Σ over codes of keys[key] · panel[lane], as f32.
///
/// # Safety
/// As for [`Dots`]; keys have `count` rows of 4 · quads codes whose sums are `totals`, panel [quads][NV · LANES][4] codes, sums
/// [count][NV · LANES].
#[inline(always)]
pub unsafe fn dots<S: Dots, const NV: usize, const KU: usize>(
    keys: &[i8],
    totals: &[i32],
    quads: usize,
    panel: &[i8],
    sums: &mut [f32],
) {
    let (width, count) = (NV * S::LANES, totals.len());
    let mut key = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while key + KU <= count {
            let keys = keys.as_ptr().add(key * 4 * quads);
            block::<S, NV, KU>(keys, &totals[key..], quads, panel, sums.as_mut_ptr().add(key * width));
            key += KU;
        }
        while key < count {
            let keys = keys.as_ptr().add(key * 4 * quads);
            block::<S, NV, 1>(keys, &totals[key..], quads, panel, sums.as_mut_ptr().add(key * width));
            key += 1;
        }
    }
}

/// # Safety
/// As for [`dots`] with KU keys.
#[inline(always)]
unsafe fn block<S: Dots, const NV: usize, const KU: usize>(
    keys: *const i8,
    totals: &[i32],
    quads: usize,
    panel: &[i8],
    sums: *mut f32,
) {
    let width = NV * S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let mut found = [[S::splat_i32(0); NV]; KU];
        for (found, &total) in found.iter_mut().zip(totals) {
            *found = [S::splat_i32(-S::OFFSET * total); NV];
        }
        let mut query = [S::splat_i32(0); NV];
        for quad in 0..quads {
            for vector in 0..NV {
                query[vector] = S::load_codes(panel.as_ptr().add(4 * (quad * width + vector * S::LANES)));
            }
            for (unit, found) in found.iter_mut().enumerate() {
                let codes = keys.add(4 * (unit * quads + quad)).cast::<i32>().read_unaligned();
                for vector in 0..NV {
                    found[vector] = S::dot(found[vector], query[vector], codes);
                }
            }
        }
        for (unit, found) in found.iter().enumerate() {
            for (vector, &found) in found.iter().enumerate() {
                S::store(sums.add(unit * width + vector * S::LANES), S::to_f32(found));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalar_dot_multiplies_four_signed_codes() {
        let a = i32::from_le_bytes([1u8, 255, 127, 129]);
        let b = i32::from_le_bytes([2u8, 3, 127, 127]);
        // SAFETY: the scalar path needs no features.
        let sum = unsafe { Scalar::dot(5, a, b) };
        assert_eq!(sum, 5 + 2 - 3 + 127 * 127 - 127 * 127);
    }
}
