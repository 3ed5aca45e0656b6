//! The small portable layer under the f32 kernels: one vector type per CPU path. Kernels are generic over [`Simd`] and are entered
//! through functions that carry the path's target features, into which the `inline(always)` methods here are inlined.

#![allow(clippy::missing_safety_doc)] // One contract for every method, stated on the trait.

/// f32 vectors of one CPU path.
///
/// # Safety
/// Methods may only be called where the CPU has the path's features ([`crate::Cpu::available`]); loads and stores take pointers to
/// at least `LANES` readable or writable f32.
pub unsafe trait Simd: Copy {
    const LANES: usize;
    type V: Copy;
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// a·b + c, rounded once.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The greater one; `b` when either is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The lesser one; `b` when either is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn floor(a: Self::V) -> Self::V;
    /// p · 2^n for integral n ≥ −126; smaller n give 0.
    unsafe fn scale2(p: Self::V, n: Self::V) -> Self::V;
    /// p · 2^n for integral n in [−127, 0]; −127 gives 0. NaN in p stays.
    #[inline(always)]
    unsafe fn scale2_down(p: Self::V, n: Self::V) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { Self::scale2(p, n) }
    }
    /// Per lane: `a` where `bits` has the lane's bit set, otherwise `b`.
    unsafe fn select(bits: u32, a: Self::V, b: Self::V) -> Self::V;
    /// Bit per lane: a > b; false when either is NaN.
    unsafe fn greater(a: Self::V, b: Self::V) -> u32;
    /// LANES half-precision values, widened.
    unsafe fn load_f16(p: *const u16) -> Self::V;
    /// `LANES` bfloat16 values.
    unsafe fn load_bf16(p: *const u16) -> Self::V;
    /// LANES rows of LANES elements at `from`, `from + stride`, … become the columns of rows at `to`, `to + to_stride`, …
    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize);
    /// The low and the high halves of LANES words, widened from half precision.
    #[inline(always)]
    unsafe fn widen_pairs(p: *const f32) -> (Self::V, Self::V) {
        let (mut low, mut high) = ([0u16; 16], [0u16; 16]);
        for lane in 0..Self::LANES {
            // SAFETY: the caller's promise: LANES words.
            let word = unsafe { p.add(lane).cast::<u32>().read_unaligned() };
            (low[lane], high[lane]) = (word as u16, (word >> 16) as u16);
        }
        // SAFETY: LANES ≤ 16.
        unsafe { (Self::load_f16(low.as_ptr()), Self::load_f16(high.as_ptr())) }
    }
    /// Asks for the cache line of an address that will be read soon, into the second level; any address will do.
    #[inline(always)]
    fn prefetch(_: *const u8) {}
}

/// 2^x with relative error below 2e-7 for x in [−126, 127], exact at 0; smaller x give 0, larger ones overflow to ∞. NaN stays NaN.
#[inline(always)]
pub unsafe fn exp2<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let n = S::floor(x);
        S::scale2(exp2_fraction::<S>(S::sub(x, n)), n)
    }
}

/// [`exp2`] of x ≤ 0, −∞ included: the same bits in fewer operations.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
pub unsafe fn exp2_down<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let x = S::max(S::splat(-127.0), x);
        let n = S::floor(x);
        S::scale2_down(exp2_fraction::<S>(S::sub(x, n)), n)
    }
}

/// 2^f for f in [0, 1).
#[inline(always)]
unsafe fn exp2_fraction<S: Simd>(f: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        // Minimax on [0, 1) among the polynomials that are 1 at 0: a factor of 2^0 must not change what it scales.
        let mut p = S::splat(0.001_867_13);
        for c in [0.009_017_031, 0.055_799_913, 0.240_164_45, 0.693_151_3, 1.0] {
            p = S::fma(p, f, S::splat(c));
        }
        p
    }
}

/// e^x for any x; NaN stays NaN, −∞ gives 0.
#[inline(always)]
pub unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise. The bounds come first, so that NaN in `x` survives them.
    unsafe {
        let bounded = S::min(
            S::splat(130.0),
            S::max(S::splat(-150.0), S::mul(x, S::splat(std::f32::consts::LOG2_E))),
        );
        exp2::<S>(bounded)
    }
}

/// One lane of plain Rust: the path of machines without SIMD, and the oracle of the others.
#[derive(Clone, Copy)]
pub struct Scalar;

// SAFETY: plain arithmetic; loads and stores dereference pointers the caller vouches for.
unsafe impl Simd for Scalar {
    const LANES: usize = 1;
    type V = f32;
    #[inline(always)]
    unsafe fn splat(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { p.read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: f32) {
        // SAFETY: the caller's promise.
        unsafe { *p = v }
    }
    #[inline(always)]
    unsafe fn add(a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    unsafe fn sub(a: f32, b: f32) -> f32 {
        a - b
    }
    #[inline(always)]
    unsafe fn mul(a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    unsafe fn div(a: f32, b: f32) -> f32 {
        a / b
    }
    #[inline(always)]
    unsafe fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    unsafe fn max(a: f32, b: f32) -> f32 {
        if a > b {
            a
        } else {
            b
        }
    }
    #[inline(always)]
    unsafe fn min(a: f32, b: f32) -> f32 {
        if a < b {
            a
        } else {
            b
        }
    }
    #[inline(always)]
    unsafe fn floor(a: f32) -> f32 {
        a.floor()
    }
    #[inline(always)]
    unsafe fn scale2(p: f32, n: f32) -> f32 {
        if n < -126.0 {
            0.0
        } else if n > 127.0 {
            p * f32::INFINITY
        } else {
            // NaN converts to 0 here and stays NaN through p.
            p * f32::from_bits(((n as i32 + 127) as u32) << 23)
        }
    }
    #[inline(always)]
    unsafe fn select(bits: u32, a: f32, b: f32) -> f32 {
        if bits & 1 != 0 {
            a
        } else {
            b
        }
    }
    #[inline(always)]
    unsafe fn greater(a: f32, b: f32) -> u32 {
        u32::from(a > b)
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> f32 {
        // SAFETY: the caller's promise.
        f32::from_bits(u32::from(unsafe { p.read_unaligned() }) << 16)
    }

    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> f32 {
        // SAFETY: the caller's promise.
        half::f16::from_bits(unsafe { p.read_unaligned() }).to_f32()
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, _stride: usize, to: *mut f32, _to_stride: usize) {
        // SAFETY: the caller's promise.
        unsafe { *to = *from }
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    /// 8 lanes; AVX2, FMA, F16C.
    #[derive(Clone, Copy)]
    pub struct Avx2;

    // SAFETY: every intrinsic used is part of AVX2, FMA or F16C, which the caller vouches for.
    unsafe impl Simd for Avx2 {
        const LANES: usize = 8;
        type V = __m256;
        #[inline(always)]
        unsafe fn splat(x: f32) -> __m256 {
            _mm256_set1_ps(x)
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m256 {
            _mm256_loadu_ps(p)
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m256) {
            _mm256_storeu_ps(p, v)
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            _mm256_add_ps(a, b)
        }
        #[inline(always)]
        unsafe fn sub(a: __m256, b: __m256) -> __m256 {
            _mm256_sub_ps(a, b)
        }
        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            _mm256_mul_ps(a, b)
        }
        #[inline(always)]
        unsafe fn div(a: __m256, b: __m256) -> __m256 {
            _mm256_div_ps(a, b)
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            _mm256_fmadd_ps(a, b, c)
        }
        #[inline(always)]
        unsafe fn max(a: __m256, b: __m256) -> __m256 {
            _mm256_max_ps(a, b)
        }
        #[inline(always)]
        unsafe fn min(a: __m256, b: __m256) -> __m256 {
            _mm256_min_ps(a, b)
        }
        #[inline(always)]
        unsafe fn floor(a: __m256) -> __m256 {
            _mm256_floor_ps(a)
        }
        #[inline(always)]
        unsafe fn scale2(p: __m256, n: __m256) -> __m256 {
            // Exponents outside of [−127, 128] saturate: 2^−127 is built as 0, 2^128 as ∞.
            let clamped = _mm256_min_ps(_mm256_max_ps(n, _mm256_set1_ps(-127.0)), _mm256_set1_ps(128.0));
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(clamped), _mm256_set1_epi32(127));
            let scaled = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
            // NaN in n (that is, in x) must come out.
            let nan = _mm256_cmp_ps(n, n, _CMP_UNORD_Q);
            _mm256_blendv_ps(scaled, n, nan)
        }
        #[inline(always)]
        unsafe fn scale2_down(p: __m256, n: __m256) -> __m256 {
            // 1.5 · 2^23 + 127 makes n + 127, the exponent of 2^n, the low bits of the sum; NaN is in p.
            let exponent = _mm256_add_ps(n, _mm256_set1_ps(12_583_039.0));
            _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(exponent))))
        }
        #[inline(always)]
        unsafe fn select(bits: u32, a: __m256, b: __m256) -> __m256 {
            let lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let hit = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits as i32), lanes), lanes);
            _mm256_blendv_ps(b, a, _mm256_castsi256_ps(hit))
        }
        #[inline(always)]
        unsafe fn greater(a: __m256, b: __m256) -> u32 {
            _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) as u32
        }
        #[inline(always)]
        unsafe fn load_bf16(p: *const u16) -> __m256 {
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()))))
        }

        #[inline(always)]
        unsafe fn load_f16(p: *const u16) -> __m256 {
            _mm256_cvtph_ps(_mm_loadu_si128(p.cast()))
        }
        #[inline(always)]
        unsafe fn widen_pairs(p: *const f32) -> (__m256, __m256) {
            // Low halves of each 128-bit lane to its lower eight bytes, high ones to its upper eight.
            let order = _mm256_setr_epi8(
                0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15, 0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,
            );
            let sorted = _mm256_shuffle_epi8(_mm256_loadu_si256(p.cast()), order);
            let halves = _mm256_permute4x64_epi64::<0b11_01_10_00>(sorted);
            (
                _mm256_cvtph_ps(_mm256_castsi256_si128(halves)),
                _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(halves)),
            )
        }
        #[inline(always)]
        fn prefetch(p: *const u8) {
            // SAFETY: a hint, which never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
        #[inline(always)]
        unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
            let mut rows = [_mm256_setzero_ps(); 8];
            for row in 0..8 {
                rows[row] = _mm256_loadu_ps(from.add(row * stride));
            }
            let mut pairs = [_mm256_setzero_ps(); 8];
            for i in 0..4 {
                pairs[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
                pairs[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
            }
            let mut fours = [_mm256_setzero_ps(); 8];
            for i in 0..2 {
                let [a, b, c, d] = [pairs[4 * i], pairs[4 * i + 1], pairs[4 * i + 2], pairs[4 * i + 3]];
                fours[4 * i] = _mm256_shuffle_ps::<0x44>(a, c);
                fours[4 * i + 1] = _mm256_shuffle_ps::<0xEE>(a, c);
                fours[4 * i + 2] = _mm256_shuffle_ps::<0x44>(b, d);
                fours[4 * i + 3] = _mm256_shuffle_ps::<0xEE>(b, d);
            }
            for i in 0..4 {
                _mm256_storeu_ps(to.add(i * to_stride), _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]));
                _mm256_storeu_ps(
                    to.add((i + 4) * to_stride),
                    _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]),
                );
            }
        }
    }

    /// 16 lanes; AVX-512 F, BW, VL, DQ.
    #[derive(Clone, Copy)]
    pub struct Avx512;

    // SAFETY: every intrinsic used is part of AVX-512 F or DQ, which the caller vouches for.
    unsafe impl Simd for Avx512 {
        const LANES: usize = 16;
        type V = __m512;
        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            _mm512_set1_ps(x)
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m512 {
            _mm512_loadu_ps(p)
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m512) {
            _mm512_storeu_ps(p, v)
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            _mm512_add_ps(a, b)
        }
        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            _mm512_sub_ps(a, b)
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            _mm512_mul_ps(a, b)
        }
        #[inline(always)]
        unsafe fn div(a: __m512, b: __m512) -> __m512 {
            _mm512_div_ps(a, b)
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            _mm512_fmadd_ps(a, b, c)
        }
        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            _mm512_max_ps(a, b)
        }
        #[inline(always)]
        unsafe fn min(a: __m512, b: __m512) -> __m512 {
            _mm512_min_ps(a, b)
        }
        #[inline(always)]
        unsafe fn floor(a: __m512) -> __m512 {
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(a)
        }
        #[inline(always)]
        unsafe fn scale2(p: __m512, n: __m512) -> __m512 {
            let scaled = _mm512_scalef_ps(p, n);
            // As on the other paths, results below the normal range are 0.
            let tiny = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(n, _mm512_set1_ps(-126.0));
            _mm512_mask_mov_ps(scaled, tiny, _mm512_setzero_ps())
        }
        #[inline(always)]
        unsafe fn scale2_down(p: __m512, n: __m512) -> __m512 {
            // Not below: NaN is let through.
            let normal = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(n, _mm512_set1_ps(-126.0));
            _mm512_maskz_scalef_ps(normal, p, n)
        }
        #[inline(always)]
        unsafe fn select(bits: u32, a: __m512, b: __m512) -> __m512 {
            _mm512_mask_blend_ps(bits as __mmask16, b, a)
        }
        #[inline(always)]
        unsafe fn greater(a: __m512, b: __m512) -> u32 {
            u32::from(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b))
        }
        #[inline(always)]
        unsafe fn load_bf16(p: *const u16) -> __m512 {
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()))))
        }

        #[inline(always)]
        unsafe fn load_f16(p: *const u16) -> __m512 {
            _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()))
        }
        #[inline(always)]
        unsafe fn widen_pairs(p: *const f32) -> (__m512, __m512) {
            // Even halves to the lower half of the vector, odd ones to the upper.
            let [a, b]: [i64; 2] = [0x0006_0004_0002_0000, 0x0007_0005_0003_0001];
            let step = 0x0008_0008_0008_0008;
            let order = _mm512_set_epi64(
                b + 3 * step,
                b + 2 * step,
                b + step,
                b,
                a + 3 * step,
                a + 2 * step,
                a + step,
                a,
            );
            let halves = _mm512_permutexvar_epi16(order, _mm512_loadu_si512(p.cast()));
            (
                _mm512_cvtph_ps(_mm512_castsi512_si256(halves)),
                _mm512_cvtph_ps(_mm512_extracti64x4_epi64::<1>(halves)),
            )
        }
        #[inline(always)]
        fn prefetch(p: *const u8) {
            // SAFETY: a hint, which never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
        #[inline(always)]
        unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
            let mut rows = [_mm512_setzero_ps(); 16];
            for row in 0..16 {
                rows[row] = _mm512_loadu_ps(from.add(row * stride));
            }
            let mut pairs = [_mm512_setzero_ps(); 16];
            for i in 0..8 {
                pairs[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
                pairs[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
            }
            // fours[4 g + c]: column c of every 128-bit lane, rows 4 g … 4 g + 3.
            let mut fours = [_mm512_setzero_ps(); 16];
            for g in 0..4 {
                let [a, b, c, d] = [pairs[4 * g], pairs[4 * g + 1], pairs[4 * g + 2], pairs[4 * g + 3]];
                fours[4 * g] = _mm512_shuffle_ps::<0x44>(a, c);
                fours[4 * g + 1] = _mm512_shuffle_ps::<0xEE>(a, c);
                fours[4 * g + 2] = _mm512_shuffle_ps::<0x44>(b, d);
                fours[4 * g + 3] = _mm512_shuffle_ps::<0xEE>(b, d);
            }
            for c in 0..4 {
                let [a, b, e, f] = [fours[c], fours[4 + c], fours[8 + c], fours[12 + c]];
                let low = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(e, f));
                let high = (_mm512_shuffle_f32x4::<0xDD>(a, b), _mm512_shuffle_f32x4::<0xDD>(e, f));
                _mm512_storeu_ps(to.add(c * to_stride), _mm512_shuffle_f32x4::<0x88>(low.0, low.1));
                _mm512_storeu_ps(to.add((8 + c) * to_stride), _mm512_shuffle_f32x4::<0xDD>(low.0, low.1));
                _mm512_storeu_ps(to.add((4 + c) * to_stride), _mm512_shuffle_f32x4::<0x88>(high.0, high.1));
                _mm512_storeu_ps(to.add((12 + c) * to_stride), _mm512_shuffle_f32x4::<0xDD>(high.0, high.1));
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub use neon::Neon;

#[cfg(target_arch = "aarch64")]
mod neon {
    use super::Simd;
    use std::arch::aarch64::*;

    /// 4 lanes; part of every aarch64 target.
    #[derive(Clone, Copy)]
    pub struct Neon;

    // SAFETY: NEON is part of the target; loads and stores take pointers the caller vouches for.
    unsafe impl Simd for Neon {
        const LANES: usize = 4;
        type V = float32x4_t;
        #[inline(always)]
        unsafe fn splat(x: f32) -> float32x4_t {
            vdupq_n_f32(x)
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> float32x4_t {
            vld1q_f32(p)
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: float32x4_t) {
            vst1q_f32(p, v)
        }
        #[inline(always)]
        unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            vaddq_f32(a, b)
        }
        #[inline(always)]
        unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            vsubq_f32(a, b)
        }
        #[inline(always)]
        unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            vmulq_f32(a, b)
        }
        #[inline(always)]
        unsafe fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            vdivq_f32(a, b)
        }
        #[inline(always)]
        unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
            vfmaq_f32(c, a, b)
        }
        #[inline(always)]
        unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            vbslq_f32(vcgtq_f32(a, b), a, b)
        }
        #[inline(always)]
        unsafe fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            vbslq_f32(vcltq_f32(a, b), a, b)
        }
        #[inline(always)]
        unsafe fn floor(a: float32x4_t) -> float32x4_t {
            vrndmq_f32(a)
        }
        #[inline(always)]
        unsafe fn scale2(p: float32x4_t, n: float32x4_t) -> float32x4_t {
            // Exponents outside of [−127, 128] saturate: 2^−127 is built as 0, 2^128 as ∞. NaN converts to 0.
            let clamped = vminq_f32(vmaxq_f32(n, vdupq_n_f32(-127.0)), vdupq_n_f32(128.0));
            let exponent = vaddq_s32(vcvtq_s32_f32(clamped), vdupq_n_s32(127));
            let scaled = vmulq_f32(p, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)));
            // NaN in n (that is, in x) must come out.
            vbslq_f32(vceqq_f32(n, n), scaled, n)
        }
        #[inline(always)]
        unsafe fn select(bits: u32, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            let lanes = [1u32, 2, 4, 8];
            vbslq_f32(vtstq_u32(vdupq_n_u32(bits), vld1q_u32(lanes.as_ptr())), a, b)
        }
        #[inline(always)]
        unsafe fn greater(a: float32x4_t, b: float32x4_t) -> u32 {
            let lanes = [1u32, 2, 4, 8];
            vaddvq_u32(vandq_u32(vcgtq_f32(a, b), vld1q_u32(lanes.as_ptr())))
        }
        #[inline(always)]
        unsafe fn load_bf16(p: *const u16) -> float32x4_t {
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p)))
        }

        #[inline(always)]
        unsafe fn load_f16(p: *const u16) -> float32x4_t {
            // The vector conversion is not in stable Rust.
            let mut wide = [0f32; 4];
            for lane in 0..4 {
                // SAFETY: the caller's promise.
                wide[lane] = half::f16::from_bits(unsafe { p.add(lane).read_unaligned() }).to_f32();
            }
            vld1q_f32(wide.as_ptr())
        }
        #[inline(always)]
        unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
            let [a, b] = [vld1q_f32(from), vld1q_f32(from.add(stride))];
            let [c, d] = [vld1q_f32(from.add(2 * stride)), vld1q_f32(from.add(3 * stride))];
            let wide = |v| vreinterpretq_f64_f32(v);
            let narrow = |v| vreinterpretq_f32_f64(v);
            let (ab, cd) = ((vtrn1q_f32(a, b), vtrn2q_f32(a, b)), (vtrn1q_f32(c, d), vtrn2q_f32(c, d)));
            vst1q_f32(to, narrow(vtrn1q_f64(wide(ab.0), wide(cd.0))));
            vst1q_f32(to.add(to_stride), narrow(vtrn1q_f64(wide(ab.1), wide(cd.1))));
            vst1q_f32(to.add(2 * to_stride), narrow(vtrn2q_f64(wide(ab.0), wide(cd.0))));
            vst1q_f32(to.add(3 * to_stride), narrow(vtrn2q_f64(wide(ab.1), wide(cd.1))));
        }
    }
}

/// `simd_dispatch!(cpu, function::<…>(args))`: runs `function::<S, …>` with the vector type of the path, inside a function that has the
/// path's target features. The function must be `#[inline(always)]` and generic over `S: Simd` first.
#[macro_export]
macro_rules! simd_dispatch {
    ($cpu:expr, $function:ident($($argument:ident : $type:ty),* $(,)?)) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx2,fma,f16c,popcnt")]
        unsafe fn avx512($($argument: $type),*) {
            // SAFETY: this function carries the features of the path.
            unsafe { $function::<$crate::simd::Avx512>($($argument),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c,popcnt")]
        unsafe fn avx2($($argument: $type),*) {
            // SAFETY: this function carries the features of the path.
            unsafe { $function::<$crate::simd::Avx2>($($argument),*) }
        }
        match $cpu {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Cpu value above Scalar only exists where detection found the features.
            $crate::Cpu::Avx512 => unsafe { avx512($($argument),*) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            $crate::Cpu::Avx2 => unsafe { avx2($($argument),*) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: NEON is part of the target.
            $crate::Cpu::Neon => unsafe { $function::<$crate::simd::Neon>($($argument),*) },
            // SAFETY: the scalar path needs no features.
            _ => unsafe { $function::<$crate::simd::Scalar>($($argument),*) },
        }
    }};
}
