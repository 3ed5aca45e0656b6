//! kv_cache_rotate — y = R x or Rᵀ x, seeded signs and a Walsh–Hadamard matrix. Contract: packages/kv-cache/src/ops/rotate.ts.
//! x, y f32 […,D]. D·log2 D additions a row by doubling distances, in the order of all backends; rows over the pool.

use crate::call::Call;
use crate::pool::for_rows;
use crate::{ensure, KernelError};

/// Numbers of a job.
const GRAIN: usize = 1 << 14;

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let (seed, inverse) = (call.attr(0)?, call.attr(1)? != 0.0);
    ensure!(
        seed.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&seed),
        "rotate: seed {seed} has not 32 bits"
    );
    let x = call.input(0)?;
    let dim = x.shape.last().copied().unwrap_or(0);
    ensure!(
        dim.is_power_of_two() && dim <= 1024,
        "rotate: the last axis of x has {dim} numbers, it takes a power of two up to 1024"
    );
    let x = x.f32s()?;
    let pool = call.pool;
    let y = call.output(0)?.f32s()?;
    ensure!(y.len() == x.len(), "rotate: y has {} numbers, x {}", y.len(), x.len());
    let signs: Vec<f32> = (0..dim as u32).map(|channel| sign_of(seed as u32, channel)).collect();
    let factor = (1.0 / (dim as f64).sqrt()) as f32;
    for_rows(pool, y, x.len() / dim, GRAIN, |first, part| {
        let rows = x[first * dim..].chunks_exact(dim);
        for (out, row) in part.chunks_exact_mut(dim).zip(rows) {
            out.copy_from_slice(row);
            if !inverse {
                multiply(out, &signs);
            }
            transform(out);
            for value in out.iter_mut() {
                *value *= factor;
            }
            if inverse {
                multiply(out, &signs);
            }
        }
    });
    Ok(())
}

fn multiply(row: &mut [f32], signs: &[f32]) {
    for (value, sign) in row.iter_mut().zip(signs) {
        *value *= sign;
    }
}

fn transform(row: &mut [f32]) {
    let mut distance = 1;
    while distance < row.len() {
        for pair in row.chunks_exact_mut(2 * distance) {
            let (low, high) = pair.split_at_mut(distance);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        distance *= 2;
    }
}

fn sign_of(seed: u32, channel: u32) -> f32 {
    let mut bits = seed ^ channel.wrapping_mul(0x9e37_79b9);
    bits = (bits ^ bits >> 16).wrapping_mul(0x7feb_352d);
    bits = (bits ^ bits >> 15).wrapping_mul(0x846c_a68b);
    match (bits ^ bits >> 16) & 1 {
        1 => -1.0,
        _ => 1.0,
    }
}
