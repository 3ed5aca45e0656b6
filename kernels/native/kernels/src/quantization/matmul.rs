//! quantization_matmul — y = x Wᵀ (+ bias) (+ residual) for weights in GGUF blocks. Contract: packages/quantization/src/ops/matmul.ts.
//!
//! x f32 [T, K], weights u8 (file rows [N, rowBytes] or r16 tiles), y f32 [T, N]. Rows of W are cut into tiles of 16, tiles over the
//! pool; tokens are taken 16, 8, 4, 2, 1 at a time. Every output is computed by the same sequence of operations whatever T, the tile and
//! the thread are, so rows are bit-equal alone and in a batch.
//!
//! Bytes: N·K·bpw/8 + 4·T·(K + N). Operations: 2·T·N·K. T = 1 is memory-bound, from T ≈ 16 on it is bound by `vpdpbusd`.

use super::activations::Activations;
use super::format::{TileLayout, WeightType, STEP, TILE_ROWS};
use super::panel::{decode_panel, multiply, Panel};
use super::repack::pack_tile;
use super::tile_scalar;
#[cfg(target_arch = "x86_64")]
use super::tile_x86 as x86;
use crate::call::Call;
use crate::pool::Disjoint;
use crate::simd::Simd;
use crate::{ensure, simd_dispatch, Cpu, KernelError};

struct Problem<'a> {
    layout: TileLayout,
    cpu: Cpu,
    x: &'a [f32],
    weights: &'a [u8],
    /// Bytes of a file row; 0 when the weights are tiles already.
    row_bytes: usize,
    quantized: Option<Activations>,
    tokens: usize,
    n: usize,
}

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let kind = WeightType::from_id(call.attr_usize(0)?)?;
    let (n, k) = (call.attr_usize(1)?, call.attr_usize(2)?);
    let packed = call.attr_usize(3)? == 1;
    let integer = call.attr_usize(4)? == 1 && !kind.is_float();
    let layout = TileLayout::new(kind, k)?;
    let x = call.input(0)?;
    ensure!(
        x.shape.len() == 2 && x.shape[1] == k,
        "matmul: x {:?} does not have rows of {k}",
        x.shape
    );
    let tokens = x.shape[0];
    let x = x.f32s()?;
    let weights = call.input(1)?.elements::<u8>()?;
    let row_bytes = if packed { 0 } else { kind.row_bytes(k)? };
    let expected = if packed { layout.packed_bytes(n)? } else { n * row_bytes };
    ensure!(
        weights.len() == expected,
        "matmul: weights have {} bytes, {n} rows of {k} take {expected}",
        weights.len()
    );
    let bias = call.optional(2).map(|bias| bias.f32s()).transpose()?;
    ensure!(
        bias.is_none_or(|bias| bias.len() == n),
        "matmul: bias does not have {n} elements"
    );
    let residual = call.optional(3).map(|residual| residual.f32s()).transpose()?;
    ensure!(
        residual.is_none_or(|residual| residual.len() == tokens * n),
        "matmul: residual is not [{tokens}, {n}]"
    );
    let (cpu, pool) = (call.cpu, call.pool);
    let y = call.output(0)?.f32s()?;
    ensure!(
        y.len() == tokens * n,
        "matmul: y has {} elements, needs {tokens} x {n}",
        y.len()
    );
    if y.is_empty() {
        return Ok(());
    }
    let quantized = (integer && k > 0).then(|| Activations::quantize(x, tokens, k, kind.bias(), cpu, pool));
    let problem = Problem {
        layout,
        cpu,
        x,
        weights,
        row_bytes,
        quantized,
        tokens,
        n,
    };
    let tiles = n.div_ceil(TILE_ROWS);
    // Enough pieces to balance the threads; which thread takes a tile does not change its result.
    let per_job = tiles.div_ceil(pool.threads() * 4).max(1);
    let out = Disjoint::new(y);
    pool.run(tiles.div_ceil(per_job), &|job| {
        let mut scratch = Vec::new();
        for tile in job * per_job..((job + 1) * per_job).min(tiles) {
            run_tile(&problem, tile, &mut scratch, bias, residual, &out);
        }
    });
    if let Some(quantized) = problem.quantized {
        quantized.keep();
    }
    Ok(())
}

fn run_tile(
    p: &Problem,
    tile: usize,
    scratch: &mut Vec<u8>,
    bias: Option<&[f32]>,
    residual: Option<&[f32]>,
    out: &Disjoint<f32>,
) {
    let bytes = p.layout.bytes;
    let weights = if p.row_bytes == 0 {
        &p.weights[tile * bytes..(tile + 1) * bytes]
    } else {
        let end = ((tile + 1) * TILE_ROWS).min(p.n) * p.row_bytes;
        scratch.clear();
        scratch.resize(bytes, 0);
        pack_tile(
            &p.layout,
            &p.weights[tile * TILE_ROWS * p.row_bytes..end],
            p.row_bytes,
            scratch,
        );
        &scratch[..]
    };
    let mut token = 0;
    while token < p.tokens {
        let left = p.tokens - token;
        let done = match left {
            16.. => block::<16>(p, tile, weights, token, bias, residual, out),
            8..=15 => block::<8>(p, tile, weights, token, bias, residual, out),
            4..=7 => block::<4>(p, tile, weights, token, bias, residual, out),
            2..=3 => block::<2>(p, tile, weights, token, bias, residual, out),
            _ => block::<1>(p, tile, weights, token, bias, residual, out),
        };
        token += done;
    }
}

/// NT tokens from `token` against one tile; returns NT.
fn block<const NT: usize>(
    p: &Problem,
    tile: usize,
    weights: &[u8],
    token: usize,
    bias: Option<&[f32]>,
    residual: Option<&[f32]>,
    out: &Disjoint<f32>,
) -> usize {
    let mut acc = [[0f32; TILE_ROWS]; NT];
    match &p.quantized {
        Some(quantized) => integer::<NT>(p, quantized, weights, token, &mut acc),
        None => float::<NT>(p, weights, token, &mut acc),
    }
    let first = tile * TILE_ROWS;
    let rows = TILE_ROWS.min(p.n - first);
    for t in 0..NT {
        let at = (token + t) * p.n + first;
        // SAFETY: this tile's columns of these tokens belong to this job alone.
        let y = unsafe { out.part(at, rows) };
        for r in 0..rows {
            let mut value = acc[t][r];
            if let Some(bias) = bias {
                value += bias[first + r];
            }
            if let Some(residual) = residual {
                value += residual[at + r];
            }
            y[r] = value;
        }
    }
    NT
}

fn integer<const NT: usize>(p: &Problem, q: &Activations, weights: &[u8], token: usize, acc: &mut [[f32; TILE_ROWS]; NT]) {
    let layout = &p.layout;
    let codes = &q.codes[token * layout.k..(token + NT) * layout.k];
    let meta = &q.meta[token * layout.steps..(token + NT) * layout.steps];
    #[cfg(target_arch = "x86_64")]
    {
        assert!(weights.len() >= layout.bytes);
        let (w, c, m) = (weights.as_ptr(), codes.as_ptr(), meta.as_ptr());
        macro_rules! by_kind {
            ($tile:ident) => {
                // SAFETY: the path was detected; the slices above have exactly the sizes the tile functions ask for.
                unsafe {
                    match layout.kind {
                        WeightType::Q4_0 => x86::$tile::<x86::Q4_0, NT>(layout, w, c, m, acc),
                        WeightType::Q4_1 => x86::$tile::<x86::Q4_1, NT>(layout, w, c, m, acc),
                        WeightType::Q5_0 => x86::$tile::<x86::Q5_0, NT>(layout, w, c, m, acc),
                        WeightType::Q5_1 => x86::$tile::<x86::Q5_1, NT>(layout, w, c, m, acc),
                        WeightType::Q8_0 => x86::$tile::<x86::Q8_0, NT>(layout, w, c, m, acc),
                        WeightType::Q4K => x86::$tile::<x86::Q4K, NT>(layout, w, c, m, acc),
                        WeightType::Q5K => x86::$tile::<x86::Q5K, NT>(layout, w, c, m, acc),
                        WeightType::Q6K => x86::$tile::<x86::Q6K, NT>(layout, w, c, m, acc),
                        WeightType::F32 | WeightType::F16 | WeightType::BF16 => {
                            unreachable!("float weights take the panel path")
                        }
                    }
                }
            };
        }
        match p.cpu {
            Cpu::Avx512 => return by_kind!(tile512),
            Cpu::Avx2 => return by_kind!(tile256),
            _ => {}
        }
    }
    #[cfg(target_arch = "aarch64")]
    if p.cpu == Cpu::Neon {
        return super::tile_neon::tile::<NT>(layout, weights, codes, meta, acc);
    }
    tile_scalar::tile::<NT>(layout, weights, codes, meta, acc);
}

fn float<const NT: usize>(p: &Problem, weights: &[u8], token: usize, acc: &mut [[f32; TILE_ROWS]; NT]) {
    let k = p.layout.k;
    let x = &p.x[token * k..(token + NT) * k];
    let layout = &p.layout;
    float_dispatch(p.cpu, layout, weights, x, acc);
}

fn float_dispatch<const NT: usize>(cpu: Cpu, layout: &TileLayout, weights: &[u8], x: &[f32], acc: &mut [[f32; TILE_ROWS]; NT]) {
    let acc = acc.as_mut_slice();
    simd_dispatch!(cpu, float_body(layout: &TileLayout, weights: &[u8], x: &[f32], acc: &mut [[f32; TILE_ROWS]]));
}

/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn float_body<S: Simd>(layout: &TileLayout, weights: &[u8], x: &[f32], acc: &mut [[f32; TILE_ROWS]]) {
    let k = layout.k;
    if layout.kind.is_float() {
        assert!(weights.len() >= k * layout.kind.block().1 * TILE_ROWS);
        // SAFETY: the tile has k inputs by the assertion.
        return unsafe { float_inputs::<S>(layout.kind, weights.as_ptr(), x, k, 0, k, acc) };
    }
    let mut panel: Panel = [0.0; STEP * TILE_ROWS];
    for first in (0..k).step_by(STEP) {
        decode_panel(layout, weights, first, &mut panel);
        // SAFETY: a panel has STEP inputs.
        unsafe { float_inputs::<S>(WeightType::F32, panel.as_ptr().cast(), x, k, first, STEP, acc) };
    }
}

/// # Safety
/// As for [`multiply`]; x holds acc.len() rows of k.
#[inline(always)]
unsafe fn float_inputs<S: Simd>(
    kind: WeightType,
    weights: *const u8,
    x: &[f32],
    k: usize,
    first: usize,
    count: usize,
    acc: &mut [[f32; TILE_ROWS]],
) {
    match acc.len() {
        16 => multiply::<S, 16>(kind, weights, x, k, first, count, sized(acc)),
        8 => multiply::<S, 8>(kind, weights, x, k, first, count, sized(acc)),
        4 => multiply::<S, 4>(kind, weights, x, k, first, count, sized(acc)),
        2 => multiply::<S, 2>(kind, weights, x, k, first, count, sized(acc)),
        _ => multiply::<S, 1>(kind, weights, x, k, first, count, sized(acc)),
    }
}

fn sized<const NT: usize>(acc: &mut [[f32; TILE_ROWS]]) -> &mut [[f32; TILE_ROWS]; NT] {
    acc.try_into().expect("token blocks have 16, 8, 4, 2 or 1 rows")
}
