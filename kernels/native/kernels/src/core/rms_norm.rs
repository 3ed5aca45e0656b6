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
/// As for [`Simd`]; plain loops that the compiler vectorises with the features of the path.
#[inline(always)]
#[allow(clippy::extra_unused_type_parameters)] // The type picks the path this is compiled for.
unsafe fn body<S: Simd>(x: &[f32], weight: &[f32], y: &mut [f32], eps: f64, offset: f32) {
    let width = weight.len();
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        let mut lanes = [0f32; 16];
        let chunks = x.chunks_exact(16);
        let rest = chunks.remainder();
        for chunk in chunks {
            for lane in 0..16 {
                lanes[lane] += chunk[lane] * chunk[lane];
            }
        }
        for (lane, &value) in rest.iter().enumerate() {
            lanes[lane] += value * value;
        }
        let sum: f64 = lanes.iter().map(|&lane| f64::from(lane)).sum();
        let scale = (1.0 / (sum / width as f64 + eps).sqrt()) as f32;
        for ((y, &x), &weight) in y.iter_mut().zip(x).zip(weight) {
            *y = x * scale * (weight + offset);
        }
    }
}
