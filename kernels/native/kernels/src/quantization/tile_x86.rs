//! Integer path on AVX-512/VNNI and AVX2; arithmetic as in `tile_scalar`, bit for bit (both use fused multiply-add).
//!
//! AVX-512: 8 vectors of codes decoded once a step (4 loads and shifts), then per token 8 `vpdpbusd` with a broadcast of four
//! activation codes, one conversion, one multiply, one or two FMA. AVX2: two halves of 8 rows, `vpmaddubsw` + `vpmaddwd`.

use super::activations::GroupMeta;
use super::format::{Codes, Group, Scales, TileLayout, WeightType, FP4, NONLINEAR, STEP, TILE_ROWS};
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
macro_rules! grouped {
    ($($name:ident),*) => { $(
        /// Of any group: the layout knows which.
        pub struct $name;
        impl Kind for $name { const KIND: WeightType = WeightType::$name(Group::G32); }
    )* };
}
grouped!(Int2, Int3, Int4, Int8, Nf4, Bnb4, E4m3, E5m2);
kinds!(Q1_0, Q2_0, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, Iq4Nl, Iq4Xs, Mxfp4, Nvfp4, Tq1, Tq2);

/// Bytes ahead of the current step that one-token calls ask into the first cache level: a few steps.
const NEAR: usize = 768;
/// Bytes ahead that they ask into the second level, which holds more misses in flight: what memory delivers in its latency, and more.
const FAR: usize = 8192;

/// Asks for the step's share of the stream: every line of a tile once and in order, its scales included, and over its end into the next
/// tile. Lines that are asked for out of order, or left to the loads, halve the bandwidth.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn prefetch(layout: &TileLayout, tile: *const u8, step: usize) {
    let share = layout.bytes / layout.steps;
    let (from, to) = (step * share / 64, ((step + 1) * share).div_ceil(64));
    for line in from..to {
        // An address beyond the weights is a hint that is dropped.
        _mm_prefetch::<_MM_HINT_T0>(tile.wrapping_add(NEAR + 64 * line).cast());
        _mm_prefetch::<_MM_HINT_T1>(tile.wrapping_add(FAR + 64 * line).cast());
    }
}

/// The eight code vectors of a step, as [`WeightType::decode`] gives them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn codes512<F: Kind>(p: *const u8) -> [__m512i; 8] {
    let load = |i: usize| _mm512_loadu_si512(p.add(64 * i).cast());
    let mask = |at: usize, c: usize| p.add(at + 8 * c).cast::<u64>().read_unaligned();
    let byte = |value: i8| _mm512_set1_epi8(value);
    let table = |levels: &[u8; 16]| _mm512_broadcast_i32x4(_mm_loadu_si128(levels.as_ptr().cast()));
    let nibble = |c: usize| {
        let plane = load(c & 3);
        _mm512_and_si512(if c < 4 { plane } else { _mm512_srli_epi16::<4>(plane) }, byte(15))
    };
    // Two bits of each byte, at bits 4 and 5 or at bits 0 and 1.
    let pair_above = |plane: usize, c: usize| {
        let high = load(plane + (c >> 2));
        let shifted = match c & 3 {
            0 => _mm512_slli_epi16::<4>(high),
            1 => _mm512_slli_epi16::<2>(high),
            2 => high,
            _ => _mm512_srli_epi16::<2>(high),
        };
        _mm512_and_si512(shifted, byte(3 << 4))
    };
    let pair = |c: usize| {
        let low = load(c >> 2);
        let shifted = match c & 3 {
            0 => low,
            1 => _mm512_srli_epi16::<2>(low),
            2 => _mm512_srli_epi16::<4>(low),
            _ => _mm512_srli_epi16::<6>(low),
        };
        _mm512_and_si512(shifted, byte(3))
    };
    let plus = |codes: __m512i, mask: u64, bit: i8| _mm512_mask_add_epi8(codes, mask, codes, byte(bit));
    std::array::from_fn(|c| match F::KIND.codes() {
        Codes::Eight | Codes::FloatBytes => load(c),
        Codes::One => _mm512_maskz_mov_epi8(mask(0, c), byte(2)),
        Codes::Two => pair(c),
        Codes::Three => plus(pair(c), mask(128, c), 4),
        Codes::Five => plus(nibble(c), mask(256, c), 16),
        Codes::Six => _mm512_or_si512(nibble(c), pair_above(4, c)),
        Codes::Nonlinear => _mm512_shuffle_epi8(table(&NONLINEAR), nibble(c)),
        Codes::Fp4 => _mm512_shuffle_epi8(table(&FP4), nibble(c)),
        Codes::Four | Codes::Float | Codes::FloatNibbles => nibble(c),
    })
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx2,fma,f16c")]
unsafe fn halves512(p: *const u8) -> __m512 {
    _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()))
}

/// Scales and offsets of the two halves of a step; where a type has one for both, the second is not used.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn scales512<F: Kind>(layout: &TileLayout, tile: *const u8, step: usize) -> [[__m512; 2]; 2] {
    let kind = F::KIND;
    let zero = _mm512_setzero_ps();
    let at = tile.add(layout.scales + step * kind.scale_bytes());
    let above = tile.add(layout.super_at(step));
    let minus = |x: __m512| _mm512_sub_ps(_mm512_set1_ps(-0.0), x);
    let unsigned = |p: *const u8| _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
    let signed = |p: *const u8| _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())));
    let float = |x: __m512i| _mm512_cvtepi32_ps(x);
    match kind.scales() {
        Scales::None => [[zero; 2]; 2],
        Scales::Half => [[halves512(at), zero], [zero; 2]],
        Scales::HalfPair => [[halves512(at), zero], [halves512(at.add(32)), zero]],
        Scales::HalfTwice => [[halves512(at), halves512(at.add(32))], [zero; 2]],
        Scales::Shared => [[halves512(above), zero], [zero; 2]],
        Scales::FloatOne => [[_mm512_loadu_ps(above.cast()), zero], [zero; 2]],
        Scales::FloatPair => [
            [_mm512_loadu_ps(above.cast()), zero],
            [_mm512_loadu_ps(above.add(64).cast()), zero],
        ],
        Scales::Exponent => {
            let e = unsigned(at);
            let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(e, _mm512_set1_epi32(1)));
            let subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), e);
            let bits = _mm512_mask_mov_epi32(normal, _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2)), subnormal);
            [[_mm512_castsi512_ps(bits), zero], [zero; 2]]
        }
        Scales::SuperPair => [
            [_mm512_mul_ps(halves512(above), float(unsigned(at))), zero],
            [
                _mm512_mul_ps(minus(halves512(above.add(32))), float(unsigned(at.add(16)))),
                zero,
            ],
        ],
        Scales::SuperPairTwice => {
            let (d, m) = (halves512(above), minus(halves512(above.add(32))));
            let pairs = [unsigned(at), unsigned(at.add(16))];
            let low = |x: __m512i| float(_mm512_and_si512(x, _mm512_set1_epi32(15)));
            let high = |x: __m512i| float(_mm512_srli_epi32::<4>(x));
            [
                [_mm512_mul_ps(d, low(pairs[0])), _mm512_mul_ps(d, low(pairs[1]))],
                [_mm512_mul_ps(m, high(pairs[0])), _mm512_mul_ps(m, high(pairs[1]))],
            ]
        }
        Scales::SuperSigned => [[_mm512_mul_ps(halves512(above), signed(at)), zero], [zero; 2]],
        Scales::SuperSignedTwice => {
            let d = halves512(above);
            [
                [_mm512_mul_ps(d, signed(at)), _mm512_mul_ps(d, signed(at.add(16)))],
                [zero; 2],
            ]
        }
    }
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
    for step in 0..layout.steps {
        if NT == 1 {
            prefetch(layout, tile, step);
        }
        let weights = codes512::<F>(tile.add(layout.codes + step * kind.code_bytes()));
        let [scale, offset] = scales512::<F>(layout, tile, step);
        for t in 0..NT {
            let q = codes.add(t * layout.k + step * STEP).cast::<i32>();
            let group = &*meta.add(t * layout.steps + step);
            let four = |c: usize| _mm512_set1_epi32(q.add(c).read_unaligned());
            let start = if kind.bias() == 0 { [0; 2] } else { group.start };
            let mut first = _mm512_set1_epi32(start[0]);
            let mut last = _mm512_set1_epi32(start[1]);
            for c in 0..4 {
                first = _mm512_dpbusd_epi32(first, weights[c], four(c));
                last = _mm512_dpbusd_epi32(last, weights[c + 4], four(c + 4));
            }
            let d = _mm512_set1_ps(group.d);
            if kind.scales_halves() {
                sums[t] = _mm512_fmadd_ps(scale[0], _mm512_mul_ps(_mm512_cvtepi32_ps(first), d), sums[t]);
                sums[t] = _mm512_fmadd_ps(scale[1], _mm512_mul_ps(_mm512_cvtepi32_ps(last), d), sums[t]);
                if kind.has_offset() {
                    for half in 0..2 {
                        let sum = _mm512_set1_ps(group.start[half] as f32 * group.d);
                        sums[t] = _mm512_fmadd_ps(offset[half], sum, sums[t]);
                    }
                }
            } else {
                let dot = _mm512_cvtepi32_ps(_mm512_add_epi32(first, last));
                sums[t] = _mm512_fmadd_ps(scale[0], _mm512_mul_ps(dot, d), sums[t]);
                if kind.has_offset() {
                    sums[t] = _mm512_fmadd_ps(offset[0], _mm512_set1_ps(group.d_sum), sums[t]);
                }
            }
        }
    }
    for t in 0..NT {
        _mm512_storeu_ps(acc[t].as_mut_ptr(), sums[t]);
    }
}

/// As [`codes512`], of eight of the rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn codes256<F: Kind>(p: *const u8, half: usize) -> [__m256i; 8] {
    let load = |i: usize| _mm256_loadu_si256(p.add(64 * i + 32 * half).cast());
    let byte = |value: i8| _mm256_set1_epi8(value);
    let table = |levels: &[u8; 16]| _mm256_broadcastsi128_si256(_mm_loadu_si128(levels.as_ptr().cast()));
    let nibble = |c: usize| {
        let plane = load(c & 3);
        _mm256_and_si256(if c < 4 { plane } else { _mm256_srli_epi16::<4>(plane) }, byte(15))
    };
    // `value` where the bit of a byte is set, of the words from byte `at`.
    let bits = |at: usize, c: usize, value: i8| {
        // Byte b of the result gets bit b of the word: repeat each of the four bytes eight times, then test one bit.
        let word = _mm256_set1_epi32(p.add(at + 8 * c + 4 * half).cast::<i32>().read_unaligned());
        let spread = _mm256_shuffle_epi8(
            word,
            _mm256_setr_epi8(
                0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3,
            ),
        );
        let each = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
        let set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, each), each);
        _mm256_and_si256(set, byte(value))
    };
    let pair_above = |plane: usize, c: usize| {
        let high = load(plane + (c >> 2));
        let shifted = match c & 3 {
            0 => _mm256_slli_epi16::<4>(high),
            1 => _mm256_slli_epi16::<2>(high),
            2 => high,
            _ => _mm256_srli_epi16::<2>(high),
        };
        _mm256_and_si256(shifted, byte(3 << 4))
    };
    let pair = |c: usize| {
        let low = load(c >> 2);
        let shifted = match c & 3 {
            0 => low,
            1 => _mm256_srli_epi16::<2>(low),
            2 => _mm256_srli_epi16::<4>(low),
            _ => _mm256_srli_epi16::<6>(low),
        };
        _mm256_and_si256(shifted, byte(3))
    };
    std::array::from_fn(|c| match F::KIND.codes() {
        Codes::Eight | Codes::FloatBytes => load(c),
        Codes::One => bits(0, c, 2),
        Codes::Two => pair(c),
        Codes::Three => _mm256_or_si256(pair(c), bits(128, c, 4)),
        Codes::Five => _mm256_or_si256(nibble(c), bits(256, c, 16)),
        Codes::Six => _mm256_or_si256(nibble(c), pair_above(4, c)),
        Codes::Nonlinear => _mm256_shuffle_epi8(table(&NONLINEAR), nibble(c)),
        Codes::Fp4 => _mm256_shuffle_epi8(table(&FP4), nibble(c)),
        Codes::Four | Codes::Float | Codes::FloatNibbles => nibble(c),
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
        Codes::Eight | Codes::Nonlinear => {
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

/// As [`scales512`], of eight of the rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn scales256<F: Kind>(layout: &TileLayout, tile: *const u8, step: usize, half: usize) -> [[__m256; 2]; 2] {
    let kind = F::KIND;
    let zero = _mm256_setzero_ps();
    let at = tile.add(layout.scales + step * kind.scale_bytes());
    let above = tile.add(layout.super_at(step));
    let halves = |p: *const u8| halves256(p.add(16 * half));
    let floats = |p: *const u8| _mm256_loadu_ps(p.add(32 * half).cast());
    let minus = |x: __m256| _mm256_sub_ps(_mm256_set1_ps(-0.0), x);
    let unsigned = |p: *const u8| _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.add(8 * half).cast()));
    let signed = |p: *const u8| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.add(8 * half).cast())));
    let float = |x: __m256i| _mm256_cvtepi32_ps(x);
    match kind.scales() {
        Scales::None => [[zero; 2]; 2],
        Scales::Half => [[halves(at), zero], [zero; 2]],
        Scales::HalfPair => [[halves(at), zero], [halves(at.add(32)), zero]],
        Scales::HalfTwice => [[halves(at), halves(at.add(32))], [zero; 2]],
        Scales::Shared => [[halves(above), zero], [zero; 2]],
        Scales::FloatOne => [[floats(above), zero], [zero; 2]],
        Scales::FloatPair => [[floats(above), zero], [floats(above.add(64)), zero]],
        Scales::Exponent => {
            let e = unsigned(at);
            let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(e, _mm256_set1_epi32(1)));
            let subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x0020_0000), e);
            let small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e);
            let bits = _mm256_blendv_epi8(normal, subnormal, small);
            [[_mm256_castsi256_ps(bits), zero], [zero; 2]]
        }
        Scales::SuperPair => [
            [_mm256_mul_ps(halves(above), float(unsigned(at))), zero],
            [_mm256_mul_ps(minus(halves(above.add(32))), float(unsigned(at.add(16)))), zero],
        ],
        Scales::SuperPairTwice => {
            let (d, m) = (halves(above), minus(halves(above.add(32))));
            let pairs = [unsigned(at), unsigned(at.add(16))];
            let low = |x: __m256i| float(_mm256_and_si256(x, _mm256_set1_epi32(15)));
            let high = |x: __m256i| float(_mm256_srli_epi32::<4>(x));
            [
                [_mm256_mul_ps(d, low(pairs[0])), _mm256_mul_ps(d, low(pairs[1]))],
                [_mm256_mul_ps(m, high(pairs[0])), _mm256_mul_ps(m, high(pairs[1]))],
            ]
        }
        Scales::SuperSigned => [[_mm256_mul_ps(halves(above), signed(at)), zero], [zero; 2]],
        Scales::SuperSignedTwice => {
            let d = halves(above);
            [
                [_mm256_mul_ps(d, signed(at)), _mm256_mul_ps(d, signed(at.add(16)))],
                [zero; 2],
            ]
        }
    }
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
    for half in 0..2 {
        let mut sums: [__m256; NT] = std::array::from_fn(|t| _mm256_loadu_ps(acc[t].as_ptr().add(8 * half)));
        for step in 0..layout.steps {
            if NT == 1 && half == 0 {
                prefetch(layout, tile, step);
            }
            let weights = codes256::<F>(tile.add(layout.codes + step * kind.code_bytes()), half);
            let [scale, offset] = scales256::<F>(layout, tile, step, half);
            for t in 0..NT {
                let q = codes.add(t * layout.k + step * STEP).cast::<i32>();
                let group = &*meta.add(t * layout.steps + step);
                // Wide types multiply signed levels, so they have no bias to take back.
                let biased = !kind.wide() && kind.bias() != 0;
                let start = if biased { group.start } else { [0; 2] };
                let first = _mm256_add_epi32(_mm256_set1_epi32(start[0]), dot256::<F>(&weights[..4], q));
                let last = _mm256_add_epi32(_mm256_set1_epi32(start[1]), dot256::<F>(&weights[4..], q.add(4)));
                let d = _mm256_set1_ps(group.d);
                if kind.scales_halves() {
                    sums[t] = _mm256_fmadd_ps(scale[0], _mm256_mul_ps(_mm256_cvtepi32_ps(first), d), sums[t]);
                    sums[t] = _mm256_fmadd_ps(scale[1], _mm256_mul_ps(_mm256_cvtepi32_ps(last), d), sums[t]);
                    if kind.has_offset() {
                        for part in 0..2 {
                            let sum = _mm256_set1_ps(group.start[part] as f32 * group.d);
                            sums[t] = _mm256_fmadd_ps(offset[part], sum, sums[t]);
                        }
                    }
                } else {
                    let dot = _mm256_cvtepi32_ps(_mm256_add_epi32(first, last));
                    sums[t] = _mm256_fmadd_ps(scale[0], _mm256_mul_ps(dot, d), sums[t]);
                    if kind.has_offset() {
                        sums[t] = _mm256_fmadd_ps(offset[0], _mm256_set1_ps(group.d_sum), sums[t]);
                    }
                }
            }
        }
        for t in 0..NT {
            _mm256_storeu_ps(acc[t].as_mut_ptr().add(8 * half), sums[t]);
        }
    }
}
