//! core_reduce — sum, mean, max, min or product over one axis, in f64, in index order. Contract: packages/core-tensor/src/ops/reduce.ts.

use crate::call::Call;
use crate::pool::for_rows;
use crate::{ensure, KernelError};

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let (kind, axis) = (call.attr_usize(0)?, call.attr(1)? as i64);
    let x = call.input(0)?;
    let rank = x.shape.len() as i64;
    let axis = if axis < 0 { axis + rank } else { axis };
    ensure!((0..rank).contains(&axis), "reduce: axis {axis} is outside of rank {rank}");
    let axis = axis as usize;
    let (length, inner) = (x.shape[axis], x.shape[axis + 1..].iter().product::<usize>());
    let x = x.f32s()?;
    let pool = call.pool;
    let y = call.output(0)?.f32s()?;
    ensure!(
        y.len() * length == x.len(),
        "reduce: y has {} elements, x {}",
        y.len(),
        x.len()
    );
    let count = y.len();
    for_rows(pool, y, count, (1 << 15) / length.max(1), |first, y| {
        let call = (x, length, inner);
        match kind {
            0 => fold(call, first, y, -0.0, |a, b| a + b, |sum| sum),
            1 => fold(call, first, y, -0.0, |a, b| a + b, |sum| sum / length as f64),
            2 => fold(
                call,
                first,
                y,
                f64::NEG_INFINITY,
                |a, b| if b > a || b.is_nan() { b } else { a },
                |a| a,
            ),
            3 => fold(
                call,
                first,
                y,
                f64::INFINITY,
                |a, b| if b < a || b.is_nan() { b } else { a },
                |a| a,
            ),
            _ => fold(call, first, y, 1.0, |a, b| a * b, |product| product),
        }
    });
    Ok(())
}

/// Results whose elements lie beside each other, and are therefore read together.
const BESIDE: usize = 64;

/// Results `first …` of x [outer, length, inner] from `start` on.
fn fold(
    (x, length, inner): (&[f32], usize, usize),
    first: usize,
    mut y: &mut [f32],
    start: f64,
    step: impl Fn(f64, f64) -> f64,
    finish: impl Fn(f64) -> f64,
) {
    let mut at = first;
    let mut found = [start; BESIDE];
    while !y.is_empty() {
        let (outer, within) = (at / inner, at % inner);
        let count = y.len().min(inner - within).min(BESIDE);
        let found = &mut found[..count];
        found.fill(start);
        for row in outer * length..(outer + 1) * length {
            for (found, &element) in found.iter_mut().zip(&x[row * inner + within..][..count]) {
                *found = step(*found, f64::from(element));
            }
        }
        let (now, rest) = std::mem::take(&mut y).split_at_mut(count);
        for (out, &found) in now.iter_mut().zip(&*found) {
            *out = finish(found) as f32;
        }
        (y, at) = (rest, at + count);
    }
}
