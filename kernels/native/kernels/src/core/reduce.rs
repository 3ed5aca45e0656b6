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
        let (mut outer, mut within) = (first / inner, first % inner);
        for out in y {
            let at = outer * length * inner + within;
            within += 1;
            if within == inner {
                (outer, within) = (outer + 1, 0);
            }
            let elements = (0..length).map(|step| f64::from(x[at + step * inner]));
            *out = match kind {
                0 => elements.sum::<f64>(),
                1 => elements.sum::<f64>() / length as f64,
                2 => elements.fold(f64::NEG_INFINITY, |a, b| if b > a || b.is_nan() { b } else { a }),
                3 => elements.fold(f64::INFINITY, |a, b| if b < a || b.is_nan() { b } else { a }),
                _ => elements.product::<f64>(),
            } as f32;
        }
    });
    Ok(())
}
