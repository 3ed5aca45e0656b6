//! Codes of pages in the lanes of vectors.

#![allow(clippy::missing_safety_doc)] // One contract for every method, stated on the trait.

use crate::simd::{Scalar, Simd};

/// Widens codes to f32.
///
/// # Safety
/// As for [`Simd`].
pub unsafe trait CodeLanes: Simd {
    /// Vectors of a group of 32 columns.
    type Group: Copy + AsMut<[Self::V]>;
    unsafe fn group(x: f32) -> Self::Group;
    /// LANES signed bytes.
    unsafe fn bytes(p: *const i8) -> Self::V;
    /// Bits `shift … shift + BITS` of LANES words; BITS is 4 or 2.
    unsafe fn bits<const BITS: u32>(p: *const u32, shift: u32) -> Self::V;
}

// SAFETY: plain loads of memory the caller vouches for.
unsafe impl CodeLanes for Scalar {
    type Group = [f32; 32];
    #[inline(always)]
    unsafe fn group(x: f32) -> Self::Group {
        // SAFETY: the caller's promise.
        unsafe { [Self::splat(x); 32] }
    }
    #[inline(always)]
    unsafe fn bytes(p: *const i8) -> f32 {
        // SAFETY: the caller's promise.
        f32::from(unsafe { *p })
    }
    #[inline(always)]
    unsafe fn bits<const BITS: u32>(p: *const u32, shift: u32) -> f32 {
        // SAFETY: the caller's promise.
        let word = unsafe { p.read_unaligned() };
        (word >> shift & ((1 << BITS) - 1)) as f32
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::CodeLanes;
    use crate::simd::{Avx2, Avx512, Simd};
    use std::arch::x86_64::*;

    // SAFETY: every intrinsic is part of AVX2, which the caller vouches for.
    unsafe impl CodeLanes for Avx2 {
        type Group = [__m256; 4];
        #[inline(always)]
        unsafe fn group(x: f32) -> Self::Group {
            // SAFETY: the caller's promise.
            unsafe { [Self::splat(x); 4] }
        }
        #[inline(always)]
        unsafe fn bytes(p: *const i8) -> __m256 {
            // SAFETY: the caller's promise: eight bytes.
            unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))) }
        }
        #[inline(always)]
        unsafe fn bits<const BITS: u32>(p: *const u32, shift: u32) -> __m256 {
            // SAFETY: the caller's promise: eight words.
            unsafe {
                let shifted = _mm256_srlv_epi32(_mm256_loadu_si256(p.cast()), _mm256_set1_epi32(shift as i32));
                _mm256_cvtepi32_ps(_mm256_and_si256(shifted, _mm256_set1_epi32((1 << BITS) - 1)))
            }
        }
    }

    // SAFETY: every intrinsic is part of AVX-512 F, which the caller vouches for.
    unsafe impl CodeLanes for Avx512 {
        type Group = [__m512; 2];
        #[inline(always)]
        unsafe fn group(x: f32) -> Self::Group {
            // SAFETY: the caller's promise.
            unsafe { [Self::splat(x); 2] }
        }
        #[inline(always)]
        unsafe fn bytes(p: *const i8) -> __m512 {
            // SAFETY: the caller's promise: sixteen bytes.
            unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
        }
        #[inline(always)]
        unsafe fn bits<const BITS: u32>(p: *const u32, shift: u32) -> __m512 {
            // SAFETY: the caller's promise: sixteen words. A permutation looks at the lowest four bits of an index: no mask, no conversion.
            unsafe {
                let shifted = _mm512_srlv_epi32(_mm512_loadu_si512(p.cast()), _mm512_set1_epi32(shift as i32));
                let codes = match BITS {
                    4 => _mm512_setr_ps(0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.),
                    _ => _mm512_setr_ps(0., 1., 2., 3., 0., 1., 2., 3., 0., 1., 2., 3., 0., 1., 2., 3.),
                };
                _mm512_permutexvar_ps(shifted, codes)
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use super::CodeLanes;
    use crate::simd::{Neon, Simd};
    use std::arch::aarch64::*;

    // SAFETY: NEON is part of the target; loads take pointers the caller vouches for.
    unsafe impl CodeLanes for Neon {
        type Group = [float32x4_t; 8];
        #[inline(always)]
        unsafe fn group(x: f32) -> Self::Group {
            // SAFETY: the caller's promise.
            unsafe { [Self::splat(x); 8] }
        }
        #[inline(always)]
        unsafe fn bytes(p: *const i8) -> float32x4_t {
            // SAFETY: the caller's promise: four bytes.
            let wide = unsafe { [p, p.add(1), p.add(2), p.add(3)].map(|p| i32::from(*p)) };
            // SAFETY: four words.
            unsafe { vcvtq_f32_s32(vld1q_s32(wide.as_ptr())) }
        }
        #[inline(always)]
        unsafe fn bits<const BITS: u32>(p: *const u32, shift: u32) -> float32x4_t {
            // SAFETY: the caller's promise: four words, as bytes, which need no alignment.
            unsafe {
                let words = vreinterpretq_u32_u8(vld1q_u8(p.cast()));
                let shifted = vshlq_u32(words, vdupq_n_s32(-(shift as i32)));
                vcvtq_f32_u32(vandq_u32(shifted, vdupq_n_u32((1 << BITS) - 1)))
            }
        }
    }
}
