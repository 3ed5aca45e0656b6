//! Tiles decoded to f32 on AVX-512 and AVX2, bit for bit as `panel` decodes them, and one token times a tile whose weights never leave
//! the registers.
//!
//! A vector of codes holds four inputs of every row, one to a byte: a shift by whole bytes and a sign extension give an integer level,
//! a permutation of 16 floats the level of a small code. Eight-bit floats become the upper bytes of halves, which the CPU converts.
//! Per 16 weights, on AVX-512: 2 to 4 instructions, one FMA with scale and offset, one FMA with the input.

use super::format::{Codes, TileLayout, WeightType, STEP, TILE_ROWS};
use super::tile_x86::{self as x86, codes256, codes512, prefetch, scales256, scales512, Kind};
use crate::Cpu;
use std::arch::x86_64::*;
use std::ops::Range;

/// Calls `$path512` or `$path256` of the kind; false on other paths.
macro_rules! by_kind {
    ($cpu:expr, $kind:expr, $path512:ident, $path256:ident, $arguments:tt) => {
        match $cpu {
            Cpu::Avx512 => by_kind!($kind, $path512, $arguments),
            Cpu::Avx2 => by_kind!($kind, $path256, $arguments),
            _ => return false,
        }
    };
    ($kind:expr, $path:ident, $arguments:tt) => {
        by_kind!($kind, $path, $arguments,
            [Q1_0 Q2_0 Q2K Q3K Q4_0 Q4_1 Q4K Q5_0 Q5_1 Q5K Q6K Q8_0 Iq4Nl Iq4Xs Mxfp4 Nvfp4 Tq1 Tq2],
            [Int2 Int3 Int4 Int8 Nf4 Bnb4 E4m3 E5m2])
    };
    ($kind:expr, $path:ident, $arguments:tt, [$($plain:ident)*], [$($grouped:ident)*]) => {
        match $kind {
            $(WeightType::$plain => $path::<x86::$plain> $arguments,)*
            $(WeightType::$grouped(_) => $path::<x86::$grouped> $arguments,)*
            WeightType::F32 | WeightType::F16 | WeightType::BF16 => unreachable!("plain values have no codes"),
        }
    };
}

/// Decodes whole steps into `out` [inputs][16 rows]; false where the CPU path has no decoder here.
pub fn decode(cpu: Cpu, layout: &TileLayout, tile: &[u8], steps: Range<usize>, out: &mut [f32]) -> bool {
    assert!(tile.len() >= layout.bytes && steps.end <= layout.steps && out.len() >= steps.len() * STEP * TILE_ROWS);
    let (tile, out) = (tile.as_ptr(), out.as_mut_ptr());
    // SAFETY: the path was detected; the tile has its bytes and `out` room for the steps by the assertion.
    unsafe { by_kind!(cpu, layout.kind, decode512, decode256, (layout, tile, steps, out)) }
    true
}

/// acc[r] += Σ w[k][r] · x[k]; false where the CPU path has no kernel here.
pub fn one_token(cpu: Cpu, layout: &TileLayout, tile: &[u8], x: &[f32], acc: &mut [f32; TILE_ROWS]) -> bool {
    assert!(tile.len() >= layout.bytes && x.len() >= layout.k);
    let (tile, x) = (tile.as_ptr(), x.as_ptr());
    // SAFETY: the path was detected; the tile has its bytes and x its inputs by the assertion.
    unsafe { by_kind!(cpu, layout.kind, one512, one256, (layout, tile, x, acc)) }
    true
}

/// Whether the level of a stored code comes from a table of 16.
const fn nibbles(kind: WeightType) -> bool {
    matches!(
        kind.codes(),
        Codes::Four | Codes::Nonlinear | Codes::Fp4 | Codes::FloatNibbles
    )
}

/// Levels of the codes below 16, as `codes512` of [`raw512`] leaves them.
fn levels(kind: WeightType) -> [f32; 16] {
    std::array::from_fn(|code| match kind.codes() {
        Codes::FloatNibbles => kind.float_level(code as u8),
        // A set bit stands for 2 already.
        Codes::One => (code as i32 + kind.bias()) as f32,
        _ => (i32::from(kind.decode(code as u8)) + kind.bias()) as f32,
    })
}

/// Where the bytes of two inputs go to become the upper bytes of halves: input `first` of every row, then the next one.
const fn upper_bytes<const N: usize>(first: usize) -> [i8; N] {
    let mut order = [-1; N];
    let mut half = 0;
    while half < N / 2 {
        // `vpshufb` moves within 16 bytes: 4 rows; `vpermb` anywhere: 16 rows.
        let (rows, lane) = if N == 64 { (16, 0) } else { (4, half / 8) };
        let within = half - 8 * lane;
        order[2 * half + 1] = (4 * (within % rows) + first + within / rows) as i8;
        half += 1;
    }
    order
}
const UPPER_512: [[i8; 64]; 2] = [upper_bytes(0), upper_bytes(2)];
const UPPER_256: [[i8; 32]; 2] = [upper_bytes(0), upper_bytes(2)];

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx2,fma,f16c")]
unsafe fn raw512<F: Kind>(codes: *const u8) -> [__m512i; 8] {
    if nibbles(F::KIND) {
        codes512::<x86::Q4_0>(codes)
    } else {
        codes512::<F>(codes)
    }
}

/// Levels of the four inputs of a vector of codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx2,fma,f16c")]
unsafe fn levels512<F: Kind>(codes: __m512i, table: __m512) -> [__m512; 4] {
    match F::KIND.codes() {
        Codes::FloatBytes => {
            let pair = |order: &[i8; 64]| {
                let order = _mm512_loadu_si512(order.as_ptr().cast());
                let mut halves = _mm512_maskz_permutexvar_epi8(0xAAAA_AAAA_AAAA_AAAA, order, codes);
                if matches!(F::KIND, WeightType::E4m3(_)) {
                    // Sign, exponent and fraction one bit lower are a half 2^8 too small, except for NaN.
                    let all = _mm512_set1_epi16(0x7F00);
                    let nan = _mm512_cmpeq_epi16_mask(_mm512_and_si512(halves, all), all);
                    halves = _mm512_and_si512(_mm512_srai_epi16::<1>(halves), _mm512_set1_epi16(0xBF80_u16 as i16));
                    halves = _mm512_mask_mov_epi16(halves, nan, _mm512_set1_epi16(0x7E00));
                }
                let float = |halves: __m256i| {
                    let value = _mm512_cvtph_ps(halves);
                    if matches!(F::KIND, WeightType::E4m3(_)) {
                        _mm512_mul_ps(value, _mm512_set1_ps(256.0))
                    } else {
                        value
                    }
                };
                [
                    float(_mm512_castsi512_si256(halves)),
                    float(_mm512_extracti64x4_epi64::<1>(halves)),
                ]
            };
            let ([a, b], [c, d]) = (pair(&UPPER_512[0]), pair(&UPPER_512[1]));
            [a, b, c, d]
        }
        Codes::Five | Codes::Six | Codes::Eight => {
            let signed = _mm512_add_epi8(codes, _mm512_set1_epi8(F::KIND.bias() as i8));
            let float = |top: __m512i| _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(top));
            [
                float(_mm512_slli_epi32::<24>(signed)),
                float(_mm512_slli_epi32::<16>(signed)),
                float(_mm512_slli_epi32::<8>(signed)),
                float(signed),
            ]
        }
        // Only the low four bits of an index count.
        _ => [
            _mm512_permutexvar_ps(codes, table),
            _mm512_permutexvar_ps(_mm512_srli_epi32::<8>(codes), table),
            _mm512_permutexvar_ps(_mm512_srli_epi32::<16>(codes), table),
            _mm512_permutexvar_ps(_mm512_srli_epi32::<24>(codes), table),
        ],
    }
}

/// # Safety
/// The CPU has the features; `tile` has `layout.bytes` bytes, `out` 16 floats for every input of the steps.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx2,fma,f16c")]
unsafe fn decode512<F: Kind>(layout: &TileLayout, tile: *const u8, steps: Range<usize>, mut out: *mut f32) {
    let table = _mm512_loadu_ps(levels(F::KIND).as_ptr());
    for step in steps {
        let codes = raw512::<F>(tile.add(layout.codes + step * F::KIND.code_bytes()));
        let [scale, offset] = scales512::<F>(layout, tile, step);
        for c in 0..8 {
            let half = if F::KIND.scales_halves() { c / 4 } else { 0 };
            for level in levels512::<F>(codes[c], table) {
                _mm512_storeu_ps(out, _mm512_fmadd_ps(scale[half], level, offset[half]));
                out = out.add(TILE_ROWS);
            }
        }
    }
}

/// # Safety
/// As for [`decode512`]; `x` has `layout.k` floats.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx2,fma,f16c")]
unsafe fn one512<F: Kind>(layout: &TileLayout, tile: *const u8, mut x: *const f32, acc: &mut [f32; TILE_ROWS]) {
    let table = _mm512_loadu_ps(levels(F::KIND).as_ptr());
    let mut sum = _mm512_loadu_ps(acc.as_ptr());
    for step in 0..layout.steps {
        prefetch(layout, tile, step);
        let codes = raw512::<F>(tile.add(layout.codes + step * F::KIND.code_bytes()));
        let [scale, offset] = scales512::<F>(layout, tile, step);
        for c in 0..8 {
            let half = if F::KIND.scales_halves() { c / 4 } else { 0 };
            for level in levels512::<F>(codes[c], table) {
                let weight = _mm512_fmadd_ps(scale[half], level, offset[half]);
                sum = _mm512_fmadd_ps(weight, _mm512_set1_ps(*x), sum);
                x = x.add(1);
            }
        }
    }
    _mm512_storeu_ps(acc.as_mut_ptr(), sum);
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn raw256<F: Kind>(codes: *const u8, half: usize) -> [__m256i; 8] {
    if matches!(F::KIND.codes(), Codes::FloatNibbles) {
        codes256::<x86::Q4_0>(codes, half)
    } else {
        codes256::<F>(codes, half)
    }
}

/// As [`levels512`], of eight rows; `table` are the lower and the upper eight levels of float nibbles.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn levels256<F: Kind>(codes: __m256i, table: [__m256; 2]) -> [__m256; 4] {
    match F::KIND.codes() {
        Codes::FloatBytes => {
            let pair = |order: &[i8; 32]| {
                let order = _mm256_loadu_si256(order.as_ptr().cast());
                let mut halves = _mm256_shuffle_epi8(codes, order);
                if matches!(F::KIND, WeightType::E4m3(_)) {
                    let all = _mm256_set1_epi16(0x7F00);
                    let nan = _mm256_cmpeq_epi16(_mm256_and_si256(halves, all), all);
                    halves = _mm256_and_si256(_mm256_srai_epi16::<1>(halves), _mm256_set1_epi16(0xBF80_u16 as i16));
                    halves = _mm256_or_si256(halves, _mm256_and_si256(nan, _mm256_set1_epi16(0x7E00)));
                }
                // Of both 128-bit lanes, first the halves of one input, then those of the next.
                let sorted = _mm256_permute4x64_epi64::<0b11_01_10_00>(halves);
                let float = |halves: __m128i| {
                    let value = _mm256_cvtph_ps(halves);
                    if matches!(F::KIND, WeightType::E4m3(_)) {
                        _mm256_mul_ps(value, _mm256_set1_ps(256.0))
                    } else {
                        value
                    }
                };
                [
                    float(_mm256_castsi256_si128(sorted)),
                    float(_mm256_extracti128_si256::<1>(sorted)),
                ]
            };
            let ([a, b], [c, d]) = (pair(&UPPER_256[0]), pair(&UPPER_256[1]));
            [a, b, c, d]
        }
        Codes::FloatNibbles => {
            let look_up = |index: __m256i| {
                let [low, high] = table.map(|table| _mm256_permutevar8x32_ps(table, index));
                _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index)))
            };
            [
                look_up(codes),
                look_up(_mm256_srli_epi32::<8>(codes)),
                look_up(_mm256_srli_epi32::<16>(codes)),
                look_up(_mm256_srli_epi32::<24>(codes)),
            ]
        }
        _ => {
            let signed = _mm256_add_epi8(codes, _mm256_set1_epi8(F::KIND.bias() as i8));
            let float = |top: __m256i| _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(top));
            [
                float(_mm256_slli_epi32::<24>(signed)),
                float(_mm256_slli_epi32::<16>(signed)),
                float(_mm256_slli_epi32::<8>(signed)),
                float(signed),
            ]
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn table256(kind: WeightType) -> [__m256; 2] {
    let levels = levels(kind);
    [_mm256_loadu_ps(levels.as_ptr()), _mm256_loadu_ps(levels.as_ptr().add(8))]
}

/// # Safety
/// As for [`decode512`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn decode256<F: Kind>(layout: &TileLayout, tile: *const u8, steps: Range<usize>, out: *mut f32) {
    let table = table256(F::KIND);
    for (index, step) in steps.enumerate() {
        for rows in 0..2 {
            let codes = raw256::<F>(tile.add(layout.codes + step * F::KIND.code_bytes()), rows);
            let [scale, offset] = scales256::<F>(layout, tile, step, rows);
            let mut out = out.add(index * STEP * TILE_ROWS + 8 * rows);
            for c in 0..8 {
                let half = if F::KIND.scales_halves() { c / 4 } else { 0 };
                for level in levels256::<F>(codes[c], table) {
                    _mm256_storeu_ps(out, _mm256_fmadd_ps(scale[half], level, offset[half]));
                    out = out.add(TILE_ROWS);
                }
            }
        }
    }
}

/// # Safety
/// As for [`one512`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn one256<F: Kind>(layout: &TileLayout, tile: *const u8, x: *const f32, acc: &mut [f32; TILE_ROWS]) {
    let table = table256(F::KIND);
    let mut sums = [_mm256_loadu_ps(acc.as_ptr()), _mm256_loadu_ps(acc.as_ptr().add(8))];
    for step in 0..layout.steps {
        prefetch(layout, tile, step);
        for rows in 0..2 {
            let codes = raw256::<F>(tile.add(layout.codes + step * F::KIND.code_bytes()), rows);
            let [scale, offset] = scales256::<F>(layout, tile, step, rows);
            let mut x = x.add(step * STEP);
            for c in 0..8 {
                let half = if F::KIND.scales_halves() { c / 4 } else { 0 };
                for level in levels256::<F>(codes[c], table) {
                    let weight = _mm256_fmadd_ps(scale[half], level, offset[half]);
                    sums[rows] = _mm256_fmadd_ps(weight, _mm256_set1_ps(*x), sums[rows]);
                    x = x.add(1);
                }
            }
        }
    }
    _mm256_storeu_ps(acc.as_mut_ptr(), sums[0]);
    _mm256_storeu_ps(acc.as_mut_ptr().add(8), sums[1]);
}
