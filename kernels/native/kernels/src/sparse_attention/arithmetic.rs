//! What the products of attention are made of: f32, or numbers rounded to bfloat16 whose products are summed in f32.
//!
//! Where the CPU multiplies pairs of bfloat16, q, k, v and p are packed two to a word — channels of q and k, keys of v and p — and the same
//! loops run over half as many words. Elsewhere rounded numbers stay f32. Numbers below 2^−126 are 0 either way.

use crate::simd::Simd;
use std::marker::PhantomData;

/// A vector of an arithmetic's path.
pub type V<A> = <<A as Arithmetic>::S as Simd>::V;

/// How numbers are held, multiplied and summed.
///
/// # Safety
/// As for [`Simd`]: the CPU has the features of the path, and those the arithmetic names.
pub unsafe trait Arithmetic: Copy {
    type S: Simd;
    /// Numbers in a word.
    const PACKED: usize;
    const BF16: bool;
    /// A word of each lane: `a`, or `a` and `b` where words hold two numbers.
    unsafe fn pack(a: V<Self>, b: V<Self>) -> V<Self>;
    /// c + Σ a·b over the numbers of the words.
    #[inline(always)]
    unsafe fn multiply_add(a: V<Self>, b: V<Self>, c: V<Self>) -> V<Self> {
        // SAFETY: the caller's promise.
        unsafe { Self::S::fma(a, b, c) }
    }
    /// c + Σ a over the numbers of the words.
    #[inline(always)]
    unsafe fn accumulate(a: V<Self>, c: V<Self>) -> V<Self> {
        // SAFETY: the caller's promise.
        unsafe { Self::S::add(c, a) }
    }
    /// [`multiply_add`](Self::multiply_add) of p and a word of values that are not all finite: `bits` says for each number which lanes see it,
    /// and p is 0 where they do not.
    #[inline(always)]
    unsafe fn multiply_add_seen(p: V<Self>, value: f32, c: V<Self>, bits: [u32; 2]) -> V<Self> {
        // SAFETY: the caller's promise.
        unsafe { Self::S::select(bits[0], Self::S::fma(p, Self::S::splat(value), c), c) }
    }
    /// Words of a row from its `count` numbers, the last one filled up with 0; `to` may be `from`.
    unsafe fn pack_row(from: *const f32, count: usize, to: *mut f32);
    /// True when a word of values has a NaN or ∞ in it.
    #[inline(always)]
    fn has_special(word: f32) -> bool {
        !word.is_finite()
    }
}

/// Rows of `width` numbers → rows of words, where a word holds one number or those of two rows; `to` may be `from`.
///
/// # Safety
/// As for [`Arithmetic`]; `from` has the rows, `to` room for those of words.
#[inline(always)]
pub unsafe fn pack_rows<A: Arithmetic>(from: *const f32, rows: usize, width: usize, to: *mut f32) {
    let lanes = A::S::LANES;
    // SAFETY: LANES numbers from `column` on lie in the row; what is left over goes through a copy.
    unsafe {
        for word in 0..rows.div_ceil(A::PACKED) {
            let first = from.add(word * A::PACKED * width);
            let second = if A::PACKED == 2 && 2 * word + 1 < rows {
                Some(first.add(width))
            } else {
                None
            };
            let mut column = 0;
            while column < width {
                let count = lanes.min(width - column);
                let a = load_part::<A::S>(first.add(column), count);
                let b = match second {
                    Some(second) => load_part::<A::S>(second.add(column), count),
                    None => A::S::splat(0.0),
                };
                let packed = A::pack(a, b);
                if count == lanes {
                    A::S::store(to.add(word * width + column), packed);
                } else {
                    let mut rest = [0f32; 16];
                    A::S::store(rest.as_mut_ptr(), packed);
                    std::ptr::copy_nonoverlapping(rest.as_ptr(), to.add(word * width + column), count);
                }
                column += lanes;
            }
        }
    }
}

/// The first `count` lanes from memory, 0 in the others.
///
/// # Safety
/// As for [`Simd`]; `count` numbers at `from`.
#[inline(always)]
unsafe fn load_part<S: Simd>(from: *const f32, count: usize) -> S::V {
    // SAFETY: the caller's promise; LANES ≤ 16.
    unsafe {
        if count == S::LANES {
            return S::load(from);
        }
        let mut rest = [0f32; 16];
        std::ptr::copy_nonoverlapping(from, rest.as_mut_ptr(), count);
        S::load(rest.as_ptr())
    }
}

/// f32 throughout.
#[derive(Clone, Copy)]
pub struct Floats<S>(PhantomData<S>);

// SAFETY: the operations of the path.
unsafe impl<S: Simd> Arithmetic for Floats<S> {
    type S = S;
    const PACKED: usize = 1;
    const BF16: bool = false;
    #[inline(always)]
    unsafe fn pack(a: S::V, _: S::V) -> S::V {
        a
    }
    #[inline(always)]
    unsafe fn pack_row(_: *const f32, _: usize, _: *mut f32) {}
}

/// Numbers rounded to bfloat16 and kept as f32.
#[derive(Clone, Copy)]
pub struct Rounded<S>(PhantomData<S>);

/// The nearest bfloat16, ties to even.
#[inline(always)]
fn rounded(x: f32) -> f32 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return f32::NAN;
    }
    if magnitude < 0x0080_0000 {
        return 0.0;
    }
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

// SAFETY: the operations of the path.
unsafe impl<S: Simd> Arithmetic for Rounded<S> {
    type S = S;
    const PACKED: usize = 1;
    const BF16: bool = true;
    #[inline(always)]
    unsafe fn pack(a: S::V, _: S::V) -> S::V {
        let mut lanes = [0f32; 16];
        // SAFETY: the caller's promise; LANES ≤ 16.
        unsafe {
            S::store(lanes.as_mut_ptr(), a);
            for lane in &mut lanes[..S::LANES] {
                *lane = rounded(*lane);
            }
            S::load(lanes.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn pack_row(from: *const f32, count: usize, to: *mut f32) {
        for index in 0..count {
            // SAFETY: the caller's promise: `count` numbers at each.
            unsafe { to.add(index).write(rounded(from.add(index).read())) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub use pairs::Pairs;

#[cfg(target_arch = "x86_64")]
mod pairs {
    use super::Arithmetic;
    use crate::simd::Avx512;
    use std::arch::x86_64::*;

    /// Two bfloat16 in a word, the first one in the low half; AVX-512 BF16. An instruction adds the products of both, the second one first.
    #[derive(Clone, Copy)]
    pub struct Pairs;

    #[inline(always)]
    unsafe fn halves(words: __m512) -> __m512bh {
        // SAFETY: the types have the same bits.
        unsafe { std::mem::transmute(words) }
    }

    #[inline(always)]
    unsafe fn words(halves: __m512bh) -> __m512 {
        // SAFETY: the types have the same bits.
        unsafe { std::mem::transmute(halves) }
    }

    // SAFETY: every intrinsic is part of AVX-512 F, BW or BF16, which the caller vouches for.
    unsafe impl Arithmetic for Pairs {
        type S = Avx512;
        const PACKED: usize = 2;
        const BF16: bool = true;
        #[inline(always)]
        unsafe fn pack(a: __m512, b: __m512) -> __m512 {
            // SAFETY: the caller's promise.
            unsafe {
                // Number i of `a`, number i of `b`: 0, 16, 1, 17, …
                let first = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
                let order = _mm512_or_si512(first, _mm512_slli_epi32::<16>(_mm512_add_epi32(first, _mm512_set1_epi32(16))));
                let both = _mm512_castps_si512(words(_mm512_cvtne2ps_pbh(b, a)));
                _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, both))
            }
        }
        #[inline(always)]
        unsafe fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: the caller's promise.
            unsafe { _mm512_dpbf16_ps(c, halves(a), halves(b)) }
        }
        #[inline(always)]
        unsafe fn accumulate(a: __m512, c: __m512) -> __m512 {
            // SAFETY: the caller's promise. 0x3f80 is 1.
            unsafe { _mm512_dpbf16_ps(c, halves(a), halves(_mm512_castsi512_ps(_mm512_set1_epi32(0x3f80_3f80)))) }
        }
        #[inline(always)]
        unsafe fn multiply_add_seen(p: __m512, value: f32, c: __m512, bits: [u32; 2]) -> __m512 {
            // SAFETY: the caller's promise.
            unsafe {
                // A number that a lane does not see is 0 there.
                let all = _mm512_set1_epi32(value.to_bits() as i32);
                let low = _mm512_maskz_mov_epi16(0x5555_5555, all);
                let high = _mm512_maskz_mov_epi16(0xaaaa_aaaa, all);
                let seen = _mm512_or_si512(
                    _mm512_maskz_mov_epi32(bits[0] as __mmask16, low),
                    _mm512_maskz_mov_epi32(bits[1] as __mmask16, high),
                );
                Self::multiply_add(p, _mm512_castsi512_ps(seen), c)
            }
        }
        #[inline(always)]
        unsafe fn pack_row(from: *const f32, count: usize, to: *mut f32) {
            // SAFETY: the caller's promise; a word is written behind the numbers it is made of.
            unsafe {
                for at in (0..count).step_by(32) {
                    let left = count - at;
                    let mask = |left: usize| if left >= 16 { u16::MAX } else { (1 << left) - 1 };
                    let low = _mm512_maskz_loadu_ps(mask(left), from.add(at));
                    let high = _mm512_maskz_loadu_ps(mask(left.saturating_sub(16)), from.wrapping_add(at + 16));
                    let packed = words(_mm512_cvtne2ps_pbh(high, low));
                    _mm512_mask_storeu_ps(to.add(at / 2), mask(left.div_ceil(2)), packed);
                }
            }
        }
        #[inline(always)]
        fn has_special(word: f32) -> bool {
            let bits = word.to_bits();
            bits & 0x7f80 == 0x7f80 || bits & 0x7f80_0000 == 0x7f80_0000
        }
    }
}
