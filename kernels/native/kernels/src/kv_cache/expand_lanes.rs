//! Numbers that lie one behind the other, spread to the lanes of vectors that bits name.

#![allow(clippy::missing_safety_doc)] // One contract for the method, stated on the trait.

use super::code_lanes::CodeLanes;
use crate::simd::Scalar;
use half::f16;

/// # Safety
/// As for [`crate::simd::Simd`]; pointers are to LANES half-precision numbers, of which as many are looked at as there are bits.
pub unsafe trait ExpandLanes: CodeLanes {
    /// The lanes of the bits get one number each, in order, the others 0.
    #[inline(always)]
    unsafe fn expand(p: *const u16, bits: u32) -> Self::V {
        let mut lanes = [0f32; 16];
        let mut p = p;
        for lane in 0..Self::LANES {
            if bits >> lane & 1 == 1 {
                // SAFETY: the caller's promise.
                unsafe {
                    lanes[lane] = f16::from_bits(p.read_unaligned()).to_f32();
                    p = p.add(1);
                }
            }
        }
        // SAFETY: LANES ≤ 16.
        unsafe { Self::load(lanes.as_ptr()) }
    }
}

// SAFETY: the method of the trait, for memory the caller vouches for.
unsafe impl ExpandLanes for Scalar {}

// SAFETY: as above.
#[cfg(target_arch = "aarch64")]
unsafe impl ExpandLanes for crate::simd::Neon {}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::ExpandLanes;
    use crate::simd::{Avx2, Avx512, Simd};
    use std::arch::x86_64::*;

    /// Which number goes to a lane, by the bits of eight; 128, which becomes 0, where none does.
    static PLACES: [[u8; 8]; 256] = places();

    const fn places() -> [[u8; 8]; 256] {
        let mut all = [[128; 8]; 256];
        let mut bits = 0;
        while bits < 256 {
            let (mut lane, mut next) = (0, 0);
            while lane < 8 {
                if bits >> lane & 1 == 1 {
                    all[bits][lane] = next;
                    next += 1;
                }
                lane += 1;
            }
            bits += 1;
        }
        all
    }

    // SAFETY: every intrinsic is part of AVX2, which the caller vouches for.
    unsafe impl ExpandLanes for Avx2 {
        #[inline(always)]
        unsafe fn expand(p: *const u16, bits: u32) -> __m256 {
            // SAFETY: the caller's promise; eight bits.
            unsafe {
                let numbers = Self::load_f16(p);
                let places = _mm256_cvtepi8_epi32(_mm_loadl_epi64(PLACES[(bits & 255) as usize].as_ptr().cast()));
                // A permutation looks at the lowest three bits; the sign of a place is that of all bits of its lane.
                let spread = _mm256_permutevar8x32_ps(numbers, places);
                _mm256_andnot_ps(_mm256_castsi256_ps(_mm256_srai_epi32::<31>(places)), spread)
            }
        }
    }

    // SAFETY: every intrinsic is part of AVX-512 F, which the caller vouches for.
    unsafe impl ExpandLanes for Avx512 {
        #[inline(always)]
        unsafe fn expand(p: *const u16, bits: u32) -> __m512 {
            // SAFETY: the caller's promise.
            unsafe { _mm512_maskz_expand_ps(bits as __mmask16, Self::load_f16(p)) }
        }
    }
}
