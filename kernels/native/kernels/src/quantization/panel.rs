//! Float path: one fused multiply-add per weight and token. Codes are decoded a few steps of 32 inputs × 16 rows at a time to an
//! f32 panel; float types are read from the tile as they are.
//!
//! y[t, r] = Σ_k w[r, k] · x[t, k], k ascending, one f32 accumulator per output: the same order for every T, path and thread count. Sums
//! stay in registers: 16 tokens × 16 rows on AVX-512, 6 × 16 on AVX2.

use super::blocks::BLOCK;
use super::format::{Codes, Scales, TileLayout, WeightType, STEP, TILE_ROWS};
use super::rows::{factors, StepScales};
use crate::simd::Simd;
use crate::{simd_dispatch, Cpu};
use std::ops::Range;

/// Steps that are decoded at once: their floats stay in the first cache level.
const PANEL_STEPS: usize = 4;

/// Words of vector c of one step: lane r's four codes in bytes 0 … 3.
///
/// # Safety
/// `codes` points to the step's `kind.code_bytes()` bytes.
#[inline(always)]
pub unsafe fn code_words(kind: WeightType, codes: *const u8, c: usize) -> [u32; TILE_ROWS] {
    let word = |plane: usize, r: usize| {
        // SAFETY: plane · 64 + 4 r + 4 ≤ code_bytes for the planes each type has.
        unsafe { codes.add(64 * plane + 4 * r).cast::<u32>().read_unaligned() }
    };
    // SAFETY: words of 8 bytes follow the planes of the types that have them.
    let bits = |at: usize, r: usize| (unsafe { codes.add(at + 8 * c).cast::<u64>().read_unaligned() } >> (4 * r)) as u32 & 15;
    // The four bits of a row, one to a byte.
    let spread = |four: u32| (four & 1) | ((four & 2) << 7) | ((four & 4) << 14) | ((four & 8) << 21);
    let nibbles = |r: usize| (word(c & 3, r) >> (4 * (c >> 2))) & 0x0F0F_0F0F;
    let pairs = |plane: usize, r: usize| (word(plane + (c >> 2), r) >> (2 * (c & 3))) & 0x0303_0303;
    std::array::from_fn(|r| match kind.codes() {
        Codes::Eight | Codes::FloatBytes => word(c, r),
        Codes::One => spread(bits(0, r)) << 1,
        Codes::Two => pairs(0, r),
        Codes::Three => pairs(0, r) | (spread(bits(128, r)) << 2),
        Codes::Five => nibbles(r) | (spread(bits(256, r)) << 4),
        Codes::Six => nibbles(r) | (pairs(4, r) << 4),
        Codes::Nonlinear | Codes::Fp4 => u32::from_le_bytes(nibbles(r).to_le_bytes().map(|code| kind.decode(code))),
        Codes::Four | Codes::FloatNibbles | Codes::Float => nibbles(r),
    })
}

/// Scale and offset per row and 16-half of `step`.
#[inline(always)]
pub fn tile_scales(layout: &TileLayout, tile: &[u8], step: usize) -> [[(f32, f32); TILE_ROWS]; 2] {
    let kind = layout.kind;
    let (at, super_at) = (layout.scales + step * kind.scale_bytes(), layout.super_at(step));
    let half = |at: usize, r: usize| u16::from_le_bytes([tile[at + 2 * r], tile[at + 2 * r + 1]]);
    let float = |at: usize, r: usize| f32::from_le_bytes(std::array::from_fn(|i| tile[at + 4 * r + i]));
    let rows: [[(f32, f32); 2]; TILE_ROWS] = std::array::from_fn(|r| {
        let floats = match kind.scales() {
            Scales::FloatPair => [float(super_at, r), float(super_at + 64, r)],
            Scales::FloatOne => [float(super_at, r), 0.0],
            _ => [0.0; 2],
        };
        let byte = |i: usize| tile[at + 16 * i + r];
        let pair = |byte: u8| [byte & 15, byte >> 4];
        let (halves, small) = match kind.scales() {
            Scales::None => ([0; 2], [[0; 2]; 2]),
            Scales::Half => ([half(at, r), 0], [[0; 2]; 2]),
            Scales::HalfPair | Scales::HalfTwice => ([half(at, r), half(at + 32, r)], [[0; 2]; 2]),
            Scales::Shared => ([half(super_at, r), 0], [[0; 2]; 2]),
            Scales::FloatPair | Scales::FloatOne => ([0; 2], [[0; 2]; 2]),
            Scales::Exponent => ([0; 2], [[byte(0), 0]; 2]),
            Scales::SuperPair => ([half(super_at, r), half(super_at + 32, r)], [[byte(0), byte(1)]; 2]),
            Scales::SuperPairTwice => ([half(super_at, r), half(super_at + 32, r)], [pair(byte(0)), pair(byte(1))]),
            Scales::SuperSigned => ([half(super_at, r), 0], [[byte(0), 0]; 2]),
            Scales::SuperSignedTwice => ([half(super_at, r), 0], [[byte(0), 0], [byte(1), 0]]),
        };
        factors(kind, StepScales { halves, floats, small })
    });
    [rows.map(|halves| halves[0]), rows.map(|halves| halves[1])]
}

/// Decodes steps of a type that has codes to floats, 16 rows per input.
pub fn decode(cpu: Cpu, layout: &TileLayout, tile: &[u8], steps: Range<usize>, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if super::panel_x86::decode(cpu, layout, tile, steps.clone(), out) {
        return;
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = cpu;
    for (step, out) in steps.zip(out.chunks_exact_mut(STEP * TILE_ROWS)) {
        decode_step(layout, tile, step, out);
    }
}

/// What every path decodes: w = scale · level + offset, rounded once.
fn decode_step(layout: &TileLayout, tile: &[u8], step: usize, out: &mut [f32]) {
    let kind = layout.kind;
    let at = layout.codes + step * kind.code_bytes();
    let codes = &tile[at..at + kind.code_bytes()];
    let scales = tile_scales(layout, tile, step);
    let (bias, floats) = (kind.bias(), kind.takes_floats());
    for c in 0..STEP / 4 {
        // SAFETY: `codes` has exactly the step's bytes.
        let words = unsafe { code_words(kind, codes.as_ptr(), c) };
        let scales = &scales[c / 4];
        for i in 0..4 {
            for r in 0..TILE_ROWS {
                let code = (words[r] >> (8 * i)) as u8;
                let level = if floats {
                    kind.float_level(code)
                } else {
                    (i32::from(code) + bias) as f32
                };
                out[(4 * c + i) * TILE_ROWS + r] = scales[r].0.mul_add(level, scales[r].1);
            }
        }
    }
}

/// acc[t][r] += Σ w[k][r] · x[t][k] of a tile and NT tokens; `x` has rows of k inputs, or of 16 tokens is a block.
pub fn product<const NT: usize>(layout: &TileLayout, cpu: Cpu, weights: &[u8], x: &[f32], acc: &mut [[f32; TILE_ROWS]; NT]) {
    let k = layout.k;
    if layout.kind.is_float() {
        return float_inputs(cpu, layout.kind, weights, x, k, 0, acc);
    }
    #[cfg(target_arch = "x86_64")]
    if NT == 1 && super::panel_x86::one_token(cpu, layout, weights, x, &mut acc[0]) {
        return;
    }
    let mut panel = [0f32; PANEL_STEPS * STEP * TILE_ROWS];
    for first in (0..layout.steps).step_by(PANEL_STEPS) {
        let steps = first..(first + PANEL_STEPS).min(layout.steps);
        let panel = &mut panel[..steps.len() * STEP * TILE_ROWS];
        decode(cpu, layout, weights, steps, panel);
        float_inputs(cpu, WeightType::F32, bytemuck::cast_slice(panel), x, k, first * STEP, acc);
    }
}

/// The inputs from `first` on whose plain values are in `weights`.
fn float_inputs<const NT: usize>(
    cpu: Cpu,
    kind: WeightType,
    weights: &[u8],
    x: &[f32],
    k: usize,
    first: usize,
    acc: &mut [[f32; TILE_ROWS]; NT],
) {
    let acc = acc.as_mut_slice();
    simd_dispatch!(cpu, float_body(kind: WeightType, weights: &[u8], x: &[f32], k: usize, first: usize, acc: &mut [[f32; TILE_ROWS]]));
}

/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn float_body<S: Simd>(
    kind: WeightType,
    weights: &[u8],
    x: &[f32],
    k: usize,
    first: usize,
    acc: &mut [[f32; TILE_ROWS]],
) {
    let count = (weights.len() / (kind.block().1 * TILE_ROWS)).min(k - first);
    assert!(x.len() >= acc.len() * k);
    let weights = weights.as_ptr();
    // SAFETY: there are `count` inputs by its definition, and as many rows of x as of sums by the assertion.
    unsafe {
        match acc.len() {
            16 => multiply::<S, 16>(kind, weights, x, k, first, count, sized(acc)),
            8 => multiply::<S, 8>(kind, weights, x, k, first, count, sized(acc)),
            4 => multiply::<S, 4>(kind, weights, x, k, first, count, sized(acc)),
            2 => multiply::<S, 2>(kind, weights, x, k, first, count, sized(acc)),
            _ => multiply::<S, 1>(kind, weights, x, k, first, count, sized(acc)),
        }
    }
}

fn sized<const NT: usize>(acc: &mut [[f32; TILE_ROWS]]) -> &mut [[f32; TILE_ROWS]; NT] {
    acc.try_into().expect("token blocks have 16, 8, 4, 2 or 1 rows")
}

/// acc[t][r] += Σ w[k][r] · x[t][k] for `count` inputs from `first`. `x` has rows of `width` inputs; of 16 tokens it is a block, 16 floats per
/// input. `weights` are values of a float type, 16 rows per input, from input `first` on: a tile as it is, or a panel.
///
/// # Safety
/// As for [`Simd`]; `weights` has `count` inputs and `x` NT rows.
#[inline(always)]
unsafe fn multiply<S: Simd, const NT: usize>(
    kind: WeightType,
    weights: *const u8,
    x: &[f32],
    width: usize,
    first: usize,
    count: usize,
    acc: &mut [[f32; TILE_ROWS]; NT],
) {
    debug_assert!(x.len() >= NT * width && first + count <= width);
    let strides @ (token, input) = if NT == BLOCK { (1, BLOCK) } else { (width, 1) };
    // SAFETY: tokens and inputs are in x by the contract.
    unsafe {
        let x = x.as_ptr().add(first * input);
        macro_rules! tokens {
            ($from:expr, $count:expr) => {
                let x = x.add($from * token);
                group::<S, $count>(kind, weights, x, strides, count, &mut acc[$from..$from + $count])
            };
        }
        // Sums of both row vectors and of as many tokens as the registers hold: 16 on AVX2.
        match NT {
            16 if S::LANES < 16 => {
                tokens!(0, 6);
                tokens!(6, 6);
                tokens!(12, 4);
            }
            8 if S::LANES < 16 => {
                tokens!(0, 4);
                tokens!(4, 4);
            }
            _ => {
                tokens!(0, NT);
            }
        }
    }
}

/// Row vectors of a tile that are multiplied at once: all of them, but not all lanes of the scalar path.
const fn row_vectors<S: Simd>() -> usize {
    let vectors = TILE_ROWS / S::LANES;
    if vectors < 4 {
        vectors
    } else {
        4
    }
}

/// [`multiply`] of G tokens whose sums stay in registers; x has floats from one token and one input to the next.
///
/// # Safety
/// As for [`multiply`].
#[inline(always)]
unsafe fn group<S: Simd, const G: usize>(
    kind: WeightType,
    weights: *const u8,
    x: *const f32,
    (token, input): (usize, usize),
    count: usize,
    acc: &mut [[f32; TILE_ROWS]],
) {
    let size = kind.block().1;
    let vectors = row_vectors::<S>();
    for from in (0..TILE_ROWS).step_by(vectors * S::LANES) {
        // SAFETY: 16 lanes per accumulator and input; weights and x are in bounds by the contract.
        unsafe {
            let mut sums = [[S::splat(0.0); 4]; G];
            for t in 0..G {
                for v in 0..vectors {
                    sums[t][v] = S::load(acc[t].as_ptr().add(from + v * S::LANES));
                }
            }
            for k in 0..count {
                let mut w = [S::splat(0.0); 4];
                for v in 0..vectors {
                    let at = weights.add((k * TILE_ROWS + from + v * S::LANES) * size);
                    w[v] = match kind {
                        WeightType::F16 => S::load_f16(at.cast()),
                        WeightType::BF16 => S::load_bf16(at.cast()),
                        _ => S::load(at.cast()),
                    };
                }
                for t in 0..G {
                    let x = S::splat(*x.add(t * token + k * input));
                    for v in 0..vectors {
                        sums[t][v] = S::fma(w[v], x, sums[t][v]);
                    }
                }
            }
            for t in 0..G {
                for v in 0..vectors {
                    S::store(acc[t].as_mut_ptr().add(from + v * S::LANES), sums[t][v]);
                }
            }
        }
    }
}
