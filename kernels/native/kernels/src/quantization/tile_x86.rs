//! Integer path on AVX-512/VNNI and AVX2; arithmetic as in `tile_scalar`, bit for bit (both use fused multiply-add).
//!
//! AVX-512: 8 vectors of codes decoded once a step (4 loads and shifts), then per token 8 `vpdpbusd` with a broadcast of four
//! activation codes, one conversion, one multiply, one or two FMA. AVX2: two halves of 8 rows, `vpmaddubsw` + `vpmaddwd`.

use super::activations::GroupMeta;
use super::format::{Codes, Scales, TileLayout, WeightType, STEP, TILE_ROWS};
use std::arch::x86_64::*;

/// A weight type as a compile-time constant, so that each instantiation holds one decoder.
pub trait Kind {
    const KIND: WeightType;
}

macro_rules! kinds {
    ($($name:ident),*) => { $(
        pub struct $name;
        impl Kind for $name { const KIND: WeightType = WeightType::$name; }
    )* };
}
kinds!(Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4K, Q5K, Q6K);

/// Bytes ahead of the current step that one-token calls ask into the first cache level: a few steps.
const NEAR: usize = 768;
/// Bytes ahead that they ask into the second level, which holds more misses in flight: what memory delivers in its latency, and more.
const FAR: usize = 8192;

/// Asks for the step's share of the stream: every line of a tile once and in order, its scales included, and over its end into the next
/// tile. Lines that are asked for out of order, or left to the loads, halve the bandwidth.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn prefetch(layout: &TileLayout, tile: *const u8, step: usize) {
    let share = layout.bytes / layout.steps;
    let (from, to) = (step * share / 64, ((step + 1) * share).div_ceil(64));
    for line in from..to {
        // An address beyond the weights is a hint that is dropped.
        _mm_prefetch::<_MM_HINT_T0>(tile.wrapping_add(NEAR + 64 * line).cast());
        _mm_prefetch::<_MM_HINT_T1>(tile.wrapping_add(FAR + 64 * line).cast());
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx2,fma,f16c")]
unsafe fn codes512<F: Kind>(p: *const u8) -> [__m512i; 8] {
    let low = _mm512_set1_epi8(15);
    let load = |i: usize| _mm512_loadu_si512(p.add(64 * i).cast());
    if matches!(F::KIND.codes(), Codes::Eight) {
        return std::array::from_fn(load);
    }
    let planes: [__m512i; 4] = std::array::from_fn(load);
    std::array::from_fn(|c| {
        let plane = planes[c & 3];
        let nibble = _mm512_and_si512(if c < 4 { plane } else { _mm512_srli_epi16::<4>(plane) }, low);
        match F::KIND.codes() {
            Codes::Five => {
                let mask = p.add(256 + 8 * c).cast::<u64>().read_unaligned();
                _mm512_mask_add_epi8(nibble, mask, nibble, _mm512_set1_epi8(16))
            }
            Codes::Six => {
                let high = load(4 + (c >> 2));
                let two = _mm512_set1_epi8(3 << 4);
                let shifted = match c & 3 {
                    0 => _mm512_slli_epi16::<4>(high),
                    1 => _mm512_slli_epi16::<2>(high),
                    2 => high,
                    _ => _mm512_srli_epi16::<2>(high),
                };
                _mm512_or_si512(nibble, _mm512_and_si512(shifted, two))
            }
            _ => nibble,
        }
    })
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx2,fma,f16c")]
unsafe fn halves512(p: *const u8) -> __m512 {
    _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()))
}

/// # Safety
/// The CPU has AVX-512 F, BW, VL, DQ, VBMI and VNNI; `tile` has `layout.bytes` bytes, `codes` NT rows of `layout.k`, `meta` NT rows of
/// `layout.steps`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx2,fma,f16c")]
pub unsafe fn tile512<F: Kind, const NT: usize>(
    layout: &TileLayout,
    tile: *const u8,
    codes: *const i8,
    meta: *const GroupMeta,
    acc: &mut [[f32; TILE_ROWS]; NT],
) {
    let kind = F::KIND;
    let mut sums: [__m512; NT] = std::array::from_fn(|t| _mm512_loadu_ps(acc[t].as_ptr()));
    let (code_bytes, scale_bytes) = (kind.code_bytes(), kind.scale_bytes());
    let (mut super_d, mut super_m) = (_mm512_setzero_ps(), _mm512_setzero_ps());
    for step in 0..layout.steps {
        let at = tile.add(layout.codes + step * code_bytes);
        if NT == 1 {
            prefetch(layout, tile, step);
        }
        let weights = codes512::<F>(at);
        let scale_at = tile.add(layout.scales + step * scale_bytes);
        let (mut second, mut offset) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        let scale = match kind.scales() {
            Scales::HalfPair => {
                offset = halves512(scale_at.add(32));
                halves512(scale_at)
            }
            Scales::SuperPair => {
                if step % 8 == 0 {
                    super_d = halves512(tile.add(step / 8 * 64));
                    super_m = _mm512_sub_ps(_mm512_set1_ps(-0.0), halves512(tile.add(step / 8 * 64 + 32)));
                }
                let small = |p: *const u8| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())));
                offset = _mm512_mul_ps(super_m, small(scale_at.add(16)));
                _mm512_mul_ps(super_d, small(scale_at))
            }
            Scales::SuperSigned => {
                if step % 8 == 0 {
                    super_d = halves512(tile.add(step / 8 * 32));
                }
                let small = |p: *const u8| _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())));
                second = _mm512_mul_ps(super_d, small(scale_at.add(16)));
                _mm512_mul_ps(super_d, small(scale_at))
            }
            _ => halves512(scale_at),
        };
        for t in 0..NT {
            let q = codes.add(t * layout.k + step * STEP).cast::<i32>();
            let group = &*meta.add(t * layout.steps + step);
            let four = |c: usize| _mm512_set1_epi32(q.add(c).read_unaligned());
            let mut first = _mm512_set1_epi32(group.start[0]);
            let mut last = _mm512_set1_epi32(group.start[1]);
            for c in 0..4 {
                first = _mm512_dpbusd_epi32(first, weights[c], four(c));
                last = _mm512_dpbusd_epi32(last, weights[c + 4], four(c + 4));
            }
            let d = _mm512_set1_ps(group.d);
            if matches!(kind.scales(), Scales::SuperSigned) {
                sums[t] = _mm512_fmadd_ps(scale, _mm512_mul_ps(_mm512_cvtepi32_ps(first), d), sums[t]);
                sums[t] = _mm512_fmadd_ps(second, _mm512_mul_ps(_mm512_cvtepi32_ps(last), d), sums[t]);
            } else {
                let dot = _mm512_cvtepi32_ps(_mm512_add_epi32(first, last));
                sums[t] = _mm512_fmadd_ps(scale, _mm512_mul_ps(dot, d), sums[t]);
                if kind.has_offset() {
                    sums[t] = _mm512_fmadd_ps(offset, _mm512_set1_ps(group.d_sum), sums[t]);
                }
            }
        }
    }
    for t in 0..NT {
        _mm512_storeu_ps(acc[t].as_mut_ptr(), sums[t]);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn codes256<F: Kind>(p: *const u8, half: usize) -> [__m256i; 8] {
    let load = |i: usize| _mm256_loadu_si256(p.add(64 * i + 32 * half).cast());
    if matches!(F::KIND.codes(), Codes::Eight) {
        return std::array::from_fn(load);
    }
    let low = _mm256_set1_epi8(15);
    std::array::from_fn(|c| {
        let plane = load(c & 3);
        let nibble = _mm256_and_si256(if c < 4 { plane } else { _mm256_srli_epi16::<4>(plane) }, low);
        match F::KIND.codes() {
            Codes::Five => {
                // Byte b of the result gets bit b of the word: repeat each of the four bytes eight times, then test one bit.
                let bits = _mm256_set1_epi32(p.add(256 + 8 * c + 4 * half).cast::<i32>().read_unaligned());
                let spread = _mm256_shuffle_epi8(
                    bits,
                    _mm256_setr_epi8(
                        0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3,
                    ),
                );
                let each = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
                let set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, each), each);
                _mm256_or_si256(nibble, _mm256_and_si256(set, _mm256_set1_epi8(16)))
            }
            Codes::Six => {
                let high = load(4 + (c >> 2));
                let shifted = match c & 3 {
                    0 => _mm256_slli_epi16::<4>(high),
                    1 => _mm256_slli_epi16::<2>(high),
                    2 => high,
                    _ => _mm256_srli_epi16::<2>(high),
                };
                _mm256_or_si256(nibble, _mm256_and_si256(shifted, _mm256_set1_epi8(3 << 4)))
            }
            _ => nibble,
        }
    })
}

/// Four vectors of codes times 16 activation codes, summed per row.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot256<F: Kind>(weights: &[__m256i], q: *const i32) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    let four = |c: usize| _mm256_set1_epi32(q.add(c).read_unaligned());
    let pair = |c: usize| _mm256_maddubs_epi16(weights[c], four(c));
    match F::KIND.codes() {
        // Codes up to 63: two products of pairs fit i16.
        Codes::Six => {
            let low = _mm256_madd_epi16(_mm256_add_epi16(pair(0), pair(1)), ones);
            let high = _mm256_madd_epi16(_mm256_add_epi16(pair(2), pair(3)), ones);
            _mm256_add_epi32(low, high)
        }
        // Signed bytes: |w| · (sign(w) · q), at most 2 · 128 · 127, one product of pairs fits i16.
        Codes::Eight => {
            let mut sum = _mm256_setzero_si256();
            for (c, &stored) in weights.iter().enumerate() {
                let w = _mm256_xor_si256(stored, _mm256_set1_epi8(-128));
                let product = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(four(c), w));
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(product, ones));
            }
            sum
        }
        // Codes up to 31: four products of pairs fit i16.
        _ => {
            let low = _mm256_add_epi16(pair(0), pair(1));
            let high = _mm256_add_epi16(pair(2), pair(3));
            _mm256_madd_epi16(_mm256_add_epi16(low, high), ones)
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn halves256(p: *const u8) -> __m256 {
    _mm256_cvtph_ps(_mm_loadu_si128(p.cast()))
}

/// # Safety
/// The CPU has AVX2, FMA and F16C; buffers as for [`tile512`].
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn tile256<F: Kind, const NT: usize>(
    layout: &TileLayout,
    tile: *const u8,
    codes: *const i8,
    meta: *const GroupMeta,
    acc: &mut [[f32; TILE_ROWS]; NT],
) {
    let kind = F::KIND;
    let (code_bytes, scale_bytes) = (kind.code_bytes(), kind.scale_bytes());
    for half in 0..2 {
        let mut sums: [__m256; NT] = std::array::from_fn(|t| _mm256_loadu_ps(acc[t].as_ptr().add(8 * half)));
        for step in 0..layout.steps {
            let at = tile.add(layout.codes + step * code_bytes);
            if NT == 1 && half == 0 {
                prefetch(layout, tile, step);
            }
            let weights = codes256::<F>(at, half);
            let scale_at = tile.add(layout.scales + step * scale_bytes);
            let (mut second, mut offset) = (_mm256_setzero_ps(), _mm256_setzero_ps());
            let lane = 16 * half;
            let scale = match kind.scales() {
                Scales::HalfPair => {
                    offset = halves256(scale_at.add(32 + lane));
                    halves256(scale_at.add(lane))
                }
                Scales::SuperPair => {
                    let super_at = tile.add(step / 8 * 64 + lane);
                    let small = |p: *const u8| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())));
                    let negative = _mm256_sub_ps(_mm256_set1_ps(-0.0), halves256(super_at.add(32)));
                    offset = _mm256_mul_ps(negative, small(scale_at.add(16 + 8 * half)));
                    _mm256_mul_ps(halves256(super_at), small(scale_at.add(8 * half)))
                }
                Scales::SuperSigned => {
                    let d = halves256(tile.add(step / 8 * 32 + lane));
                    let small = |p: *const u8| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())));
                    second = _mm256_mul_ps(d, small(scale_at.add(16 + 8 * half)));
                    _mm256_mul_ps(d, small(scale_at.add(8 * half)))
                }
                _ => halves256(scale_at.add(lane)),
            };
            for t in 0..NT {
                let q = codes.add(t * layout.k + step * STEP).cast::<i32>();
                let group = &*meta.add(t * layout.steps + step);
                // Q8_0 multiplies signed weights, so it has no bias to take back.
                let biased = if matches!(kind.codes(), Codes::Eight) {
                    [0, 0]
                } else {
                    group.start
                };
                let first = _mm256_add_epi32(_mm256_set1_epi32(biased[0]), dot256::<F>(&weights[..4], q));
                let last = _mm256_add_epi32(_mm256_set1_epi32(biased[1]), dot256::<F>(&weights[4..], q.add(4)));
                let d = _mm256_set1_ps(group.d);
                if matches!(kind.scales(), Scales::SuperSigned) {
                    sums[t] = _mm256_fmadd_ps(scale, _mm256_mul_ps(_mm256_cvtepi32_ps(first), d), sums[t]);
                    sums[t] = _mm256_fmadd_ps(second, _mm256_mul_ps(_mm256_cvtepi32_ps(last), d), sums[t]);
                } else {
                    let dot = _mm256_cvtepi32_ps(_mm256_add_epi32(first, last));
                    sums[t] = _mm256_fmadd_ps(scale, _mm256_mul_ps(dot, d), sums[t]);
                    if kind.has_offset() {
                        sums[t] = _mm256_fmadd_ps(offset, _mm256_set1_ps(group.d_sum), sums[t]);
                    }
                }
            }
        }
        for t in 0..NT {
            _mm256_storeu_ps(acc[t].as_mut_ptr().add(8 * half), sums[t]);
        }
    }
}
