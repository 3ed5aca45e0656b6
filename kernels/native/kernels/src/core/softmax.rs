//! core_softmax — over the last axis. Contract: packages/core-tensor/src/ops/softmax.ts. 8 bytes an element moved.

use crate::call::Call;
use crate::pool::for_rows;
use crate::simd::{exp, Simd};
use crate::{ensure, simd_dispatch, KernelError};

/// Exponentials that are summed in f32 before their sum is widened.
const BLOCK: usize = 1024;

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let x = call.input(0)?;
    let width = x.shape.last().copied().unwrap_or(0);
    let x = x.f32s()?;
    let (pool, cpu) = (call.pool, call.cpu);
    let y = call.output(0)?.f32s()?;
    ensure!(y.len() == x.len(), "softmax: y has {} elements, x {}", y.len(), x.len());
    if width == 0 {
        return Ok(());
    }
    for_rows(pool, y, x.len() / width, 1 << 13, |first, y| {
        for (row, y) in y.chunks_exact_mut(width).enumerate() {
            let x = &x[(first + row) * width..][..width];
            simd_dispatch!(cpu, softmax(x: &[f32], y: &mut [f32]));
        }
    });
    Ok(())
}

/// y as long as x.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn softmax<S: Simd>(x: &[f32], y: &mut [f32]) {
    let whole = x.len() / S::LANES * S::LANES;
    let mut lanes = [f32::NEG_INFINITY; 16];
    // SAFETY: LANES ≤ 16, and vectors begin at multiples of LANES below `whole`.
    unsafe {
        let mut top = S::splat(f32::NEG_INFINITY);
        for at in (0..whole).step_by(S::LANES) {
            top = S::max(S::load(x.as_ptr().add(at)), top);
        }
        S::store(lanes.as_mut_ptr(), top);
    }
    // NaN is passed over here and comes back in the sum.
    let rest = lanes.iter().chain(&x[whole..]);
    let largest = rest.fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    let mut sum = 0f64;
    for first in (0..x.len()).step_by(BLOCK) {
        let end = (first + BLOCK).min(x.len());
        let mut at = first;
        lanes = [0.0; 16];
        // SAFETY: as above; the last vector is read from and written to a copy.
        unsafe {
            let (mut part, top) = (S::splat(0.0), S::splat(largest));
            while at + S::LANES <= end {
                let value = exp::<S>(S::sub(S::load(x.as_ptr().add(at)), top));
                S::store(y.as_mut_ptr().add(at), value);
                part = S::add(part, value);
                at += S::LANES;
            }
            if at < end {
                let mut tail = [f32::NEG_INFINITY; 16];
                tail[..end - at].copy_from_slice(&x[at..end]);
                S::store(tail.as_mut_ptr(), exp::<S>(S::sub(S::load(tail.as_ptr()), top)));
                y[at..end].copy_from_slice(&tail[..end - at]);
                sum += tail[..end - at].iter().map(|&value| f64::from(value)).sum::<f64>();
            }
            S::store(lanes.as_mut_ptr(), part);
        }
        sum += lanes.iter().map(|&part| f64::from(part)).sum::<f64>();
    }
    let inverse = 1.0 / sum;
    for y in y {
        *y = (f64::from(*y) * inverse) as f32;
    }
}
