//! core_rms_norm — y = x / sqrt(mean(x²) + eps) · (weight + weightOffset). Contract: packages/core-tensor/src/ops/rms-norm.ts.
//! 8 bytes an element moved, 4 operations: memory-bound. The sum of squares runs in 16 f32 lanes, the same on every path.

use crate::call::Call;
use crate::pool::for_rows;
use crate::simd::Simd;
use crate::{ensure, simd_dispatch, Cpu, KernelError};

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let (eps, offset) = (call.attr(0)?, call.attr(1)? as f32);
    let x = call.input(0)?.f32s()?;
    let weight = call.input(1)?.f32s()?;
    let width = weight.len();
    let (pool, cpu) = (call.pool, call.cpu);
    let y = call.output(0)?.f32s()?;
    ensure!(y.len() == x.len(), "rms-norm: y has {} elements, x {}", y.len(), x.len());
    if width == 0 {
        return Ok(());
    }
    ensure!(
        x.len() % width == 0,
        "rms-norm: x has {} elements, rows have {width}",
        x.len()
    );
    for_rows(pool, y, x.len() / width, 1 << 15, |first, y| {
        let x = &x[first * width..first * width + y.len()];
        rows(cpu, x, weight, y, eps, offset);
    });
    Ok(())
}

fn rows(cpu: Cpu, x: &[f32], weight: &[f32], y: &mut [f32], eps: f64, offset: f32) {
    simd_dispatch!(cpu, body(x: &[f32], weight: &[f32], y: &mut [f32], eps: f64, offset: f32));
}

/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn body<S: Simd>(x: &[f32], weight: &[f32], y: &mut [f32], eps: f64, offset: f32) {
    let width = weight.len();
    let whole = width / 16 * 16;
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        let mut lanes = [0f32; 16];
        // SAFETY: vectors end at or below `whole` ≤ width, and within the 16 lanes.
        unsafe {
            let mut lane = 0;
            while lane < 16 {
                let mut sum = S::splat(0.0);
                let mut at = lane;
                while at < whole {
                    let value = S::load(x.as_ptr().add(at));
                    sum = S::add(sum, S::mul(value, value));
                    at += 16;
                }
                S::store(lanes.as_mut_ptr().add(lane), sum);
                lane += S::LANES;
            }
        }
        for (lane, &value) in lanes.iter_mut().zip(&x[whole..]) {
            *lane += value * value;
        }
        let sum: f64 = lanes.iter().map(|&lane| f64::from(lane)).sum();
        let scale = (1.0 / (sum / width as f64 + eps).sqrt()) as f32;
        // SAFETY: as above.
        unsafe {
            let mut at = 0;
            while at < whole {
                let gain = S::add(S::load(weight.as_ptr().add(at)), S::splat(offset));
                let value = S::mul(S::load(x.as_ptr().add(at)), S::splat(scale));
                S::store(y.as_mut_ptr().add(at), S::mul(value, gain));
                at += S::LANES;
            }
        }
        for at in whole..width {
            y[at] = x[at] * scale * (weight[at] + offset);
        }
    }
}
