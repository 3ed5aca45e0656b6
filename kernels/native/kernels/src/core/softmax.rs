//! core_softmax — over the last axis. Contract: packages/core-tensor/src/ops/softmax.ts. 8 bytes an element moved.

use crate::call::Call;
use crate::pool::for_rows;
use crate::{ensure, KernelError};

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let x = call.input(0)?;
    let width = x.shape.last().copied().unwrap_or(0);
    let x = x.f32s()?;
    let pool = call.pool;
    let y = call.output(0)?.f32s()?;
    ensure!(y.len() == x.len(), "softmax: y has {} elements, x {}", y.len(), x.len());
    if width == 0 {
        return Ok(());
    }
    for_rows(pool, y, x.len() / width, 1 << 13, |first, y| {
        for (row, y) in y.chunks_exact_mut(width).enumerate() {
            let x = &x[(first + row) * width..][..width];
            let largest = x
                .iter()
                .fold(f32::NEG_INFINITY, |a, &b| if b > a || b.is_nan() { b } else { a });
            let mut sum = 0f64;
            for (y, &x) in y.iter_mut().zip(x) {
                *y = (x - largest).exp();
                sum += f64::from(*y);
            }
            let inverse = 1.0 / sum;
            for y in y {
                *y = (f64::from(*y) * inverse) as f32;
            }
        }
    });
    Ok(())
}
