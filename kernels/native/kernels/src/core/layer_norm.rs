//! core_layer_norm — y = (x − mean) / sqrt(var + eps) · weight + bias. Contract: packages/core-tensor/src/ops/layer-norm.ts.

use crate::call::Call;
use crate::pool::for_rows;
use crate::{ensure, KernelError};

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let eps = call.attr(0)?;
    let x = call.input(0)?.f32s()?;
    let (weight, bias) = (call.input(1)?.f32s()?, call.input(2)?.f32s()?);
    let width = weight.len();
    ensure!(
        bias.len() == width,
        "layer-norm: bias has {} elements, weight {width}",
        bias.len()
    );
    let pool = call.pool;
    let y = call.output(0)?.f32s()?;
    ensure!(
        y.len() == x.len() && (width > 0 || x.is_empty()),
        "layer-norm: x and y do not fit"
    );
    if width == 0 {
        return Ok(());
    }
    ensure!(
        x.len() % width == 0,
        "layer-norm: x has {} elements, rows have {width}",
        x.len()
    );
    for_rows(pool, y, x.len() / width, 1 << 14, |first, y| {
        for (row, y) in y.chunks_exact_mut(width).enumerate() {
            let x = &x[(first + row) * width..][..width];
            let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / width as f64;
            let variance = x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / width as f64;
            let scale = 1.0 / (variance + eps).sqrt();
            for column in 0..width {
                let centred = (f64::from(x[column]) - mean) * scale;
                y[column] = centred as f32 * weight[column] + bias[column];
            }
        }
    });
    Ok(())
}
