//! Codes of pages as levels in the lanes of vectors.

#![allow(clippy::missing_safety_doc)] // One contract for every method, stated on the trait.

use super::code_lanes::CodeLanes;
use crate::simd::Scalar;

/// Looks up codes in a table of 16 numbers.
///
/// # Safety
/// As for [`crate::simd::Simd`].
pub unsafe trait LevelLanes: CodeLanes {
    type Table: Copy;
    unsafe fn table(levels: &[f32; 16]) -> Self::Table;
    /// The levels of bits `shift … shift + BITS` of LANES words; BITS is 4 or 2, and four levels stand in the table four times.
    unsafe fn levels<const BITS: u32>(p: *const u32, shift: u32, table: Self::Table) -> Self::V;
}

// SAFETY: plain loads of memory the caller vouches for.
unsafe impl LevelLanes for Scalar {
    type Table = [f32; 16];
    #[inline(always)]
    unsafe fn table(levels: &[f32; 16]) -> Self::Table {
        *levels
    }
    #[inline(always)]
    unsafe fn levels<const BITS: u32>(p: *const u32, shift: u32, table: Self::Table) -> f32 {
        // SAFETY: the caller's promise.
        let word = unsafe { p.read_unaligned() };
        table[(word >> shift & 15) as usize]
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::LevelLanes;
    use crate::simd::{Avx2, Avx512};
    use std::arch::x86_64::*;

    // SAFETY: every intrinsic is part of AVX2, which the caller vouches for.
    unsafe impl LevelLanes for Avx2 {
        type Table = [__m256; 2];
        #[inline(always)]
        unsafe fn table(levels: &[f32; 16]) -> Self::Table {
            // SAFETY: the caller's promise: twice eight numbers.
            unsafe { [_mm256_loadu_ps(levels.as_ptr()), _mm256_loadu_ps(levels.as_ptr().add(8))] }
        }
        #[inline(always)]
        unsafe fn levels<const BITS: u32>(p: *const u32, shift: u32, table: Self::Table) -> __m256 {
            // SAFETY: the caller's promise: eight words. A permutation looks at the lowest three bits, the fourth picks the half.
            unsafe {
                let shifted = _mm256_srlv_epi32(_mm256_loadu_si256(p.cast()), _mm256_set1_epi32(shift as i32));
                let low = _mm256_permutevar8x32_ps(table[0], shifted);
                if BITS == 2 {
                    return low;
                }
                let high = _mm256_permutevar8x32_ps(table[1], shifted);
                _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(shifted)))
            }
        }
    }

    // SAFETY: every intrinsic is part of AVX-512 F, which the caller vouches for.
    unsafe impl LevelLanes for Avx512 {
        type Table = __m512;
        #[inline(always)]
        unsafe fn table(levels: &[f32; 16]) -> Self::Table {
            // SAFETY: the caller's promise: sixteen numbers.
            unsafe { _mm512_loadu_ps(levels.as_ptr()) }
        }
        #[inline(always)]
        unsafe fn levels<const BITS: u32>(p: *const u32, shift: u32, table: Self::Table) -> __m512 {
            // SAFETY: the caller's promise: sixteen words. A permutation looks at the lowest four bits.
            unsafe {
                let shifted = _mm512_srlv_epi32(_mm512_loadu_si512(p.cast()), _mm512_set1_epi32(shift as i32));
                _mm512_permutexvar_ps(shifted, table)
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use super::LevelLanes;
    use crate::simd::Neon;
    use std::arch::aarch64::*;

    // SAFETY: NEON is part of the target; loads take pointers the caller vouches for.
    unsafe impl LevelLanes for Neon {
        type Table = uint8x16x4_t;
        #[inline(always)]
        unsafe fn table(levels: &[f32; 16]) -> Self::Table {
            // SAFETY: the caller's promise: 64 bytes.
            unsafe { vld1q_u8_x4(levels.as_ptr().cast()) }
        }
        #[inline(always)]
        unsafe fn levels<const BITS: u32>(p: *const u32, shift: u32, table: Self::Table) -> float32x4_t {
            // SAFETY: the caller's promise: four words, as bytes, which need no alignment. The four bytes of a level are picked one by one.
            unsafe {
                let words = vreinterpretq_u32_u8(vld1q_u8(p.cast()));
                let codes = vandq_u32(vshlq_u32(words, vdupq_n_s32(-(shift as i32))), vdupq_n_u32(15));
                let bytes = vaddq_u32(vmulq_n_u32(codes, 0x0404_0404), vdupq_n_u32(0x0302_0100));
                vreinterpretq_f32_u8(vqtbl4q_u8(table, vreinterpretq_u8_u32(bytes)))
            }
        }
    }
}
