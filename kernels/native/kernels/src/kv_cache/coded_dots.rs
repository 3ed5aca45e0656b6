//! Rows of factors times 4- and 2-bit codes in whole numbers: `vpdpbusd` adds the products of four rows of codes to 16 columns at once, where f32
//! takes an instruction for one. AVX-512 with VNNI; elsewhere `coded_rows` does the same in f32.
//!
//! A factor is a number times the scale of a row of codes. Per row of queries and group of columns factors are whole multiples of a step,
//! max|number| · max scale / 2^23, about as f32 has them, so nothing is given up: a sum is off by at most rows · levels · step / 2. They are written
//! in three signed bytes, Σ 256^i · digit i, whose products are summed apart; the sums are exact, as 128 · 15 · 4096 rows fit 32 bits with a byte left.
//!
//! Per 128 codes of three rows of queries: a load, 3 shifts and masks, 18 dots; f32 takes 8 shifts, 8 permutations and 24 products.

use super::coded_rows::Product;
use super::layout::{half_at, Layout, CHUNK, GROUP};
use crate::simd::{Avx512, Simd};
use crate::sparse_attention::ahead::Ahead;
use std::arch::x86_64::*;

/// Steps from 0 to the largest factor: what digits of 127 make is a little less than 2^23, and products are rounded.
const STEPS: f32 = 8_323_000.0;
const DIGITS: usize = 3;
/// Groups whose factors are made before the sums of either: what they wait for, a maximum and a division, is waited for once.
const TOGETHER: usize = 2;

/// Sums of 32 columns, digit by digit, both halves.
type Totals<const R: usize> = [[[__m512i; 2]; DIGITS]; R];

/// What sums of whole products become: whole · step + start.
#[derive(Clone, Copy, Default)]
struct Grid {
    step: f32,
    start: f32,
}

/// sums[row][column] = Σ number · decoded code, for codes of BITS = 4 or 2. The scratch has a number for every padded row of each row of queries.
///
/// # Safety
/// The CPU has the features; everything else is as long as `coded_rows::multiply` asserts.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx2,fma,f16c")]
pub unsafe fn multiply<const BITS: u32>(product: &Product, scratch: &mut [f32], sums: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe {
        match product.rows {
            1 => multiply_rows::<BITS, 1>(product, scratch, sums),
            2 => multiply_rows::<BITS, 2>(product, scratch, sums),
            3 => multiply_rows::<BITS, 3>(product, scratch, sums),
            _ => multiply_rows::<BITS, 4>(product, scratch, sums),
        }
    }
}

/// # Safety
/// As for [`multiply`].
#[inline(always)]
unsafe fn multiply_rows<const BITS: u32, const R: usize>(product: &Product, scratch: &mut [f32], sums: &mut [f32]) {
    let layout = product.page.layout;
    let count = layout.padded_rows;
    let chunks = layout.group_bytes / CHUNK;
    let ahead = Ahead::new(product.page.ahead, chunks * layout.groups);
    let digits = scratch.as_mut_ptr().cast::<i32>();
    // SAFETY: the caller's promise; the groups are there. Of one group alone there are as many digits as factors.
    unsafe {
        let mut largest = [0f32; R];
        for (row, largest) in largest.iter_mut().enumerate() {
            *largest = largest_magnitude(product.numbers.as_ptr().add(row * count), count);
        }
        for first in (0..layout.groups).step_by(TOGETHER) {
            let last = layout.groups.min(first + TOGETHER);
            let mut grids = [[Grid::default(); R]; TOGETHER];
            for group in first..last {
                grids[group - first] = fold::<BITS, R>(product, group, &largest, digits.add((group - first) * R * count));
            }
            for group in first..last {
                let digits = digits.add((group - first) * R * count);
                add_group::<BITS, R>(product, group, (&grids[group - first], digits), sums, &ahead);
            }
        }
    }
}

/// The sums of a group.
///
/// # Safety
/// As for [`multiply`]; the digits are those of the group.
#[inline(always)]
unsafe fn add_group<const BITS: u32, const R: usize>(
    product: &Product,
    group: usize,
    (grids, digits): (&[Grid; R], *const i32),
    sums: &mut [f32],
    ahead: &Ahead,
) {
    let layout = product.page.layout;
    let count = layout.padded_rows;
    let quads = 4 / BITS as usize;
    // SAFETY: the caller's promise; chunks and columns are there.
    unsafe {
        let codes = product.page.bytes.as_ptr().add(group * layout.group_bytes);
        let mut totals: Totals<R> = [[[_mm512_setzero_si512(); 2]; DIGITS]; R];
        for chunk in 0..layout.group_bytes / CHUNK {
            ahead.ask::<Avx512>();
            let words = _mm512_loadu_si512(codes.add(chunk * CHUNK).cast());
            let digits = digits.add(chunk * quads * 4);
            if BITS == 4 {
                add_products::<R, 4>(&mut totals, words, digits, count);
            } else {
                add_products::<R, 2>(&mut totals, words, digits, count);
                add_products::<R, 2>(&mut totals, _mm512_srli_epi32::<4>(words), digits.add(4), count);
            }
        }
        // A loop of its own, small enough to be unrolled: the sums of digits never leave their registers.
        let mut whole = [[_mm512_setzero_ps(); 2]; R];
        for row in 0..R {
            for side in 0..2 {
                let [low, middle, high] = &totals[row];
                whole[row][side] = joined(low[side], middle[side], high[side]);
            }
        }
        for row in 0..R {
            for side in 0..2 {
                let at = sums.as_mut_ptr().add((row * layout.groups + group) * GROUP + 16 * side);
                let mut sum = _mm512_set1_ps(grids[row].start);
                if let Some(alpha) = product.alpha {
                    sum = _mm512_fmadd_ps(_mm512_loadu_ps(at), _mm512_set1_ps(alpha[row]), sum);
                }
                _mm512_storeu_ps(at, _mm512_fmadd_ps(whole[row][side], _mm512_set1_ps(grids[row].step), sum));
            }
        }
    }
}

/// The number whose digits were summed apart.
#[inline(always)]
unsafe fn joined(low: __m512i, middle: __m512i, high: __m512i) -> __m512 {
    // SAFETY: AVX-512 F, which the caller has.
    unsafe {
        let low = _mm512_cvtepi32_ps(_mm512_add_epi32(low, _mm512_slli_epi32::<8>(middle)));
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), _mm512_set1_ps(65536.0), low)
    }
}

/// Products of four rows of codes, which lie in the lowest bits of bytes and SHIFT bits higher. Unrolled: sums stay in registers.
///
/// # Safety
/// As for [`multiply`]; digits are there, rows of queries `stride` words apart.
#[inline(always)]
unsafe fn add_products<const R: usize, const SHIFT: u32>(
    totals: &mut Totals<R>,
    words: __m512i,
    digits: *const i32,
    stride: usize,
) {
    let mask = _mm512_set1_epi8((1 << SHIFT) - 1);
    let codes = [
        _mm512_and_si512(words, mask),
        _mm512_and_si512(_mm512_srli_epi32::<SHIFT>(words), mask),
    ];
    for row in 0..R {
        for digit in 0..DIGITS {
            // SAFETY: the caller's promise.
            let four = _mm512_set1_epi32(unsafe { *digits.add(row * stride + digit) });
            for side in 0..2 {
                let total = &mut totals[row][digit][side];
                *total = _mm512_dpbusd_epi32(*total, codes[side], four);
            }
        }
    }
}

/// The factors of a group: words of a digit of four rows of codes, in the order in which chunks take them, a word that is not used after every three.
///
/// # Safety
/// As for [`multiply`]; `to` has room for the padded rows of each row of queries.
#[inline(always)]
unsafe fn fold<const BITS: u32, const R: usize>(
    product: &Product,
    group: usize,
    largest: &[f32; R],
    to: *mut i32,
) -> [Grid; R] {
    let layout = product.page.layout;
    let (count, bytes) = (layout.padded_rows, product.page.bytes);
    let order = if BITS == 4 { &FOUR_BITS } else { &TWO_BITS };
    // SAFETY: the caller's promise; padded rows are vectors of 16.
    unsafe {
        let order = _mm512_loadu_si512(order.as_ptr().cast());
        let scales = bytes.as_ptr().add(layout.code_bytes + 2 * group * count);
        let zeros = bytes.as_ptr().add(layout.zeros_at() + 2 * group * count);
        let largest_scale = largest_scale(layout, bytes, group);
        let mut starts = [_mm512_setzero_ps(); R];
        let mut grids = [Grid::default(); R];
        let mut per_step = [_mm512_setzero_ps(); R];
        for row in 0..R {
            grids[row].step = largest[row] * largest_scale * (1.0 / STEPS);
            // Factors are 0 where there is no step, or none that is a number: the sums are what they start from, or NaN.
            if grids[row].step > 0.0 {
                per_step[row] = _mm512_set1_ps(1.0 / grids[row].step);
            }
        }
        for at in (0..count).step_by(16) {
            let scale = Avx512::load_f16(scales.add(2 * at).cast());
            let zero = Avx512::load_f16(zeros.add(2 * at).cast());
            for row in 0..R {
                let number = _mm512_loadu_ps(product.numbers.as_ptr().add(row * count + at));
                starts[row] = _mm512_fmadd_ps(number, zero, starts[row]);
                let steps = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_mul_ps(number, scale), per_step[row]));
                // Half of a byte's range added to every byte carries into the next one what the signed digit is short of.
                let half = _mm512_set1_epi32(0x0080_8080);
                let digits = _mm512_xor_si512(_mm512_add_epi32(steps, half), half);
                let words = _mm512_permutexvar_epi8(order, digits);
                _mm512_storeu_si512(to.add(row * count + at).cast(), words);
            }
        }
        for row in 0..R {
            grids[row].start = _mm512_reduce_add_ps(starts[row]);
        }
        grids
    }
}

/// Bytes of 16 factors in the order of words: digit by digit those of four rows, which bytes of a word of codes hold together.
static FOUR_BITS: [u8; 64] = order([0, 1, 2, 3]);
static TWO_BITS: [u8; 64] = order([0, 2, 4, 6]);

/// The four rows of the first words; those of the others follow.
const fn order(rows: [usize; 4]) -> [u8; 64] {
    let mut bytes = [0; 64];
    let mut at = 0;
    while at < 64 {
        let (word, row) = (at / 4, at % 4);
        let (quad, digit) = (word / 4, word % 4);
        // Two bits: even and odd rows of eight.
        let first = if rows[1] == 2 { quad / 2 * 8 + quad % 2 } else { quad * 4 };
        bytes[at] = (4 * (first + rows[row]) + digit) as u8;
        at += 1;
    }
    bytes
}

/// # Safety
/// As for [`multiply`]; 16 divides `count`.
#[inline(always)]
unsafe fn largest_magnitude(numbers: *const f32, count: usize) -> f32 {
    let mut most = _mm512_setzero_ps();
    for at in (0..count).step_by(16) {
        // SAFETY: the caller's promise.
        most = _mm512_max_ps(_mm512_abs_ps(unsafe { _mm512_loadu_ps(numbers.add(at)) }), most);
    }
    _mm512_reduce_max_ps(most)
}

/// Scales are not negative, so their bits are ordered as they are: ∞ and NaN, which devices write for what they cannot encode, above all.
///
/// # Safety
/// As for [`multiply`].
#[inline(always)]
unsafe fn largest_scale(layout: &Layout, bytes: &[u8], group: usize) -> f32 {
    let from = layout.code_bytes + 2 * group * layout.padded_rows;
    let mut most = _mm256_setzero_si256();
    for at in (0..layout.padded_rows).step_by(16) {
        // SAFETY: 16 scales of the group.
        most = _mm256_max_epu16(most, unsafe { _mm256_loadu_si256(bytes.as_ptr().add(from + 2 * at).cast()) });
    }
    let most = _mm_max_epu16(_mm256_castsi256_si128(most), _mm256_extracti128_si256::<1>(most));
    // There is an instruction for the least of eight words, and none for the largest.
    let least = _mm_minpos_epu16(_mm_xor_si128(most, _mm_set1_epi16(-1)));
    half_at(&(!(_mm_extract_epi16::<0>(least) as u16)).to_le_bytes(), 0)
}
