//! Matmuls of quantised and float weights: y = x Wᵀ (+ bias), and what is fused with it.
//!
//! - quantization_matmul: one weight (+ residual). Contract: packages/quantization/src/ops/matmul.ts
//! - quantization_qkv: three weights of one input. Contract: packages/quantization/src/ops/qkv.ts
//! - quantization_glu: f(x Gᵀ) · (x Uᵀ). Contract: packages/quantization/src/ops/glu.ts
//!
//! x f32 [T, K], weights u8 (file rows [N, rowBytes] or r16 tiles), y f32 [T, N]. Rows of W are cut into tiles of 16, tiles over the
//! pool; tokens are taken 16, 8, 4, 2, 1 at a time. Every output is computed by the same sequence of operations whatever T, the tile, the
//! thread and the op are, so rows are bit-equal alone, in a batch, and fused. x is quantised once per call.
//!
//! Bytes: N·K·bpw/8 + 4·T·(K + N). Operations: 2·T·N·K. T = 1 is memory-bound, from T ≈ 16 on arithmetic is the bound: `vpdpbusd`, or
//! FMA where inputs are not quantised.

use super::format::{WeightType, TILE_ROWS};
use super::product::{Form, Input, Weight};
use crate::call::{Call, TensorMut};
use crate::core::elementwise::{activate, gate_kind};
use crate::pool::{Disjoint, Pool};
use crate::{ensure, Cpu, KernelError};

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let kind = WeightType::from_id(call.attr_usize(0)?)?;
    let n = call.attr_usize(1)?;
    let form = Form::read(call, 2)?;
    let mut weights = [form.weight(kind, n, call.input(1)?, call.optional(2))?];
    let (cpu, pool) = (call.cpu, call.pool);
    let input = form.input(call.input(0)?, &mut weights, cpu, pool)?;
    let residual = call.optional(3).map(|residual| residual.f32s()).transpose()?;
    ensure!(
        residual.is_none_or(|residual| residual.len() == input.tokens * n),
        "matmul: residual is not [{}, {n}]",
        input.tokens
    );
    linears(&input, &weights, residual, call.outputs, pool)?;
    input.keep();
    Ok(())
}

pub fn qkv(call: &mut Call) -> Result<(), KernelError> {
    let (form, mut weights) = several::<3>(call)?;
    let (cpu, pool) = (call.cpu, call.pool);
    let input = form.input(call.input(0)?, &mut weights, cpu, pool)?;
    linears(&input, &weights, None, call.outputs, pool)?;
    input.keep();
    Ok(())
}

pub fn glu(call: &mut Call) -> Result<(), KernelError> {
    let (form, mut weights) = several::<2>(call)?;
    let kind = gate_kind(call.attr_usize(call.attrs.len() - 1)?)?;
    let (cpu, pool) = (call.cpu, call.pool);
    let input = form.input(call.input(0)?, &mut weights, cpu, pool)?;
    let [gate, up] = &weights;
    let n = gate.n;
    ensure!(up.n == n, "glu: gate has {n} rows, up {}", up.n);
    let h = call.output(0)?.f32s()?;
    ensure!(h.len() == input.tokens * n, "glu: h is not [{}, {n}]", input.tokens);
    if !h.is_empty() {
        let out = Disjoint::new(h);
        let gated = Gated { gate, up, kind, cpu };
        for_tiles(pool, gate.tiles(), &|tile, scratch| gated.tile(&input, tile, scratch, &out));
    }
    input.keep();
    Ok(())
}

/// W weights from inputs 1 … W with biases behind them; attributes: types, rows, inputs, layout, activations.
fn several<'a, const W: usize>(call: &Call<'_, 'a>) -> Result<(Form, [Weight<'a>; W]), KernelError> {
    let (types, next) = call.attr_list(0)?;
    let (rows, next) = call.attr_list(next)?;
    ensure!(
        types.len() == W && rows.len() == W && types.iter().chain(&rows).all(|&value| value >= 0),
        "matmul: types {types:?} and rows {rows:?} are not those of {W} weights"
    );
    let form = Form::read(call, next)?;
    let weight = |index: usize| {
        let kind = WeightType::from_id(types[index] as usize)?;
        form.weight(
            kind,
            rows[index] as usize,
            call.input(1 + index)?,
            call.optional(1 + W + index),
        )
    };
    let weights = (0..W).map(weight).collect::<Result<Vec<_>, _>>()?;
    let weights = weights
        .try_into()
        .map_err(|_| KernelError("matmul: weights are missing".into()))?;
    Ok((form, weights))
}

/// Runs `body(tile, scratch)` for every tile.
fn for_tiles(pool: &dyn Pool, tiles: usize, body: &(dyn Fn(usize, &mut [Vec<u8>; 2]) + Sync)) {
    // Enough pieces to balance the threads; which thread takes a tile does not change its result.
    let per_job = tiles.div_ceil(pool.threads() * 4).max(1);
    pool.run(tiles.div_ceil(per_job), &|job| {
        let mut scratch = [Vec::new(), Vec::new()];
        for tile in job * per_job..((job + 1) * per_job).min(tiles) {
            body(tile, &mut scratch);
        }
    });
}

/// Calls `self.block::<NT>(…, token)` until every token is done.
macro_rules! for_tokens {
    ($tokens:expr, $this:ident.$block:ident($($argument:expr),*)) => {{
        let mut token = 0;
        while token < $tokens {
            token += match $tokens - token {
                16.. => { $this.$block::<16>($($argument,)* token); 16 }
                8..=15 => { $this.$block::<8>($($argument,)* token); 8 }
                4..=7 => { $this.$block::<4>($($argument,)* token); 4 }
                2..=3 => { $this.$block::<2>($($argument,)* token); 2 }
                _ => { $this.$block::<1>($($argument,)* token); 1 }
            };
        }
    }};
}

/// A weight and where its product goes.
struct Linear<'a> {
    weight: &'a Weight<'a>,
    residual: Option<&'a [f32]>,
    out: Disjoint<f32>,
}

/// The products of all weights, their tiles in one loop.
fn linears(
    input: &Input,
    weights: &[Weight],
    residual: Option<&[f32]>,
    outputs: &mut [TensorMut],
    pool: &dyn Pool,
) -> Result<(), KernelError> {
    let mut all = Vec::with_capacity(weights.len());
    for (weight, y) in weights.iter().zip(outputs) {
        let y = y.f32s()?;
        ensure!(
            y.len() == input.tokens * weight.n,
            "matmul: y has {} elements, needs {} x {}",
            y.len(),
            input.tokens,
            weight.n
        );
        all.push(Linear {
            weight,
            residual,
            out: Disjoint::new(y),
        });
    }
    if input.tokens == 0 {
        return Ok(());
    }
    let tiles = weights.iter().map(Weight::tiles).sum();
    for_tiles(pool, tiles, &|mut tile, [scratch, _]| {
        for linear in &all {
            if tile < linear.weight.tiles() {
                return linear.tile(input, tile, scratch);
            }
            tile -= linear.weight.tiles();
        }
    });
    Ok(())
}

impl Linear<'_> {
    fn tile(&self, input: &Input, tile: usize, scratch: &mut Vec<u8>) {
        let weights = self.weight.tile(tile, scratch);
        for_tokens!(input.tokens, self.block(input, tile, weights));
    }

    fn block<const NT: usize>(&self, input: &Input, tile: usize, weights: &[u8], token: usize) {
        let sums = self.weight.product::<NT>(input, tile, weights, token);
        let rows = self.weight.rows(tile);
        for (t, sums) in sums.iter().enumerate() {
            let at = (token + t) * self.weight.n + rows.start;
            // SAFETY: this tile's columns of these tokens belong to this job alone.
            let y = unsafe { self.out.part(at, rows.len()) };
            y.copy_from_slice(&sums[..rows.len()]);
            if let Some(residual) = self.residual {
                for (y, residual) in y.iter_mut().zip(&residual[at..]) {
                    *y += residual;
                }
            }
        }
    }
}

struct Gated<'a> {
    gate: &'a Weight<'a>,
    up: &'a Weight<'a>,
    kind: usize,
    cpu: Cpu,
}

impl Gated<'_> {
    fn tile(&self, input: &Input, tile: usize, [first, second]: &mut [Vec<u8>; 2], out: &Disjoint<f32>) {
        let weights = [self.gate.tile(tile, first), self.up.tile(tile, second)];
        for_tokens!(input.tokens, self.block(input, tile, weights, out));
    }

    fn block<const NT: usize>(&self, input: &Input, tile: usize, weights: [&[u8]; 2], out: &Disjoint<f32>, token: usize) {
        let gate = self.gate.product::<NT>(input, tile, weights[0], token);
        let up = self.up.product::<NT>(input, tile, weights[1], token);
        let mut h = [[0f32; TILE_ROWS]; NT];
        activate(
            self.cpu,
            self.kind,
            gate.as_flattened(),
            Some(up.as_flattened()),
            h.as_flattened_mut(),
        );
        let rows = self.gate.rows(tile);
        for (t, h) in h.iter().enumerate() {
            // SAFETY: this tile's columns of these tokens belong to this job alone.
            let y = unsafe { out.part((token + t) * self.gate.n + rows.start, rows.len()) };
            y.copy_from_slice(&h[..rows.len()]);
        }
    }
}
