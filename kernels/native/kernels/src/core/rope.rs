//! core_rope — rotary position embedding. Contract: packages/core-tensor/src/ops/rope.ts. 8 bytes an element moved; sine and cosine are
//! computed once per token and pair and shared by the heads.

use crate::call::Call;
use crate::pool::for_rows;
use crate::{ensure, KernelError};

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let half = call.attr_usize(0)? == 0;
    let scale = call.attr(1)?;
    let x = call.input(0)?;
    ensure!(x.shape.len() == 3, "rope: x must be [tokens, heads, dim]");
    let (tokens, heads, dim) = (x.shape[0], x.shape[1], x.shape[2]);
    let x = x.f32s()?;
    let positions = call.input(1)?.i32s()?;
    let frequencies = call.input(2)?.f32s()?;
    let pairs = frequencies.len();
    ensure!(
        positions.len() == tokens && 2 * pairs <= dim,
        "rope: positions or frequencies do not fit x"
    );
    let pool = call.pool;
    let y = call.output(0)?.f32s()?;
    ensure!(y.len() == x.len(), "rope: y has {} elements, x {}", y.len(), x.len());
    let row = heads * dim;
    if row == 0 {
        return Ok(());
    }
    for_rows(pool, y, tokens, 1 << 14, |first, y| {
        let mut turns = vec![(0f32, 0f32); pairs];
        for (token, y) in y.chunks_exact_mut(row).enumerate() {
            let token = first + token;
            let x = &x[token * row..(token + 1) * row];
            for (turn, &frequency) in turns.iter_mut().zip(frequencies) {
                let angle = f64::from((f64::from(positions[token]) * f64::from(frequency)) as f32);
                *turn = ((angle.cos() * scale) as f32, (angle.sin() * scale) as f32);
            }
            y.copy_from_slice(x);
            for (x, y) in x.chunks_exact(dim).zip(y.chunks_exact_mut(dim)) {
                for (pair, &(cosine, sine)) in turns.iter().enumerate() {
                    let (i, j) = if half {
                        (pair, pair + pairs)
                    } else {
                        (2 * pair, 2 * pair + 1)
                    };
                    let (a, b) = (x[i], x[j]);
                    y[i] = a * cosine - b * sine;
                    y[j] = b * cosine + a * sine;
                }
            }
        }
    });
    Ok(())
}
