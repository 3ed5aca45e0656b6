//! sparse_attention_block_scores — scores of pooled queries with pooled keys. Contract: packages/sparse-attention/src/select/block-scores.ts.
//! 2·R·C·D operations a head through the `matrixmultiply` crate, rows in panels that leave out what is hidden from all of them; then softmax row by row.

use super::args::{axes, block, kv_heads, lengths, Lengths};
use crate::call::Call;
use crate::pool::Disjoint;
use crate::simd::{exp, Simd};
use crate::{ensure, simd_dispatch, KernelError};

/// Rows of a product.
const PANEL: usize = 32;
const HIDDEN: f32 = -1e30;

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let op = "block-scores";
    let (qc, kc) = (call.input(0)?, call.input(1)?);
    let [batch, heads, rows, dim] = axes(op, "qc", &qc)?;
    let [own_batch, key_heads, columns, own_dim] = axes(op, "kc", &kc)?;
    ensure!(
        own_batch == batch && own_dim == dim,
        "{op}: qc {:?} and kc {:?} do not fit",
        qc.shape,
        kc.shape
    );
    let scale = call.attr(0)? as f32;
    let (block_q, block_k, softmax) = (block(call, 1)?, block(call, 2)?, call.attr_bool(3)?);
    let keep = call.optional(2).map(|keep| keep.f32s()).transpose()?;
    ensure!(
        keep.is_none_or(|keep| keep.len() == batch * key_heads * columns),
        "{op}: keep does not fit"
    );
    let all = Lengths {
        queries: rows * block_q,
        keys: columns * block_k,
    };
    let lengths = lengths(op, call.optional(3), batch, all)?;
    let kv_of = kv_heads(op, call.optional(4), heads, key_heads)?;
    let (qc, kc) = (qc.f32s()?, kc.f32s()?);
    let (pool, cpu) = (call.pool, call.cpu);
    let y = call.output(0)?.f32s()?;
    ensure!(y.len() == batch * heads * rows * columns, "{op}: y does not fit");
    if y.is_empty() {
        return Ok(());
    }
    let panels = rows.div_ceil(PANEL);
    let y = Disjoint::new(y);
    pool.run(batch * heads * panels, &|job| {
        let (column, first) = (job / panels, job % panels * PANEL);
        let (element, count) = (column / heads, PANEL.min(rows - first));
        let kv_row = element * key_heads + kv_of[column % heads];
        let visible = |row: usize| lengths[element].visible_blocks(row, block_q, block_k).min(columns);
        let most = (first..first + count).map(visible).max().unwrap_or(0);
        // SAFETY: panels have rows of their own.
        let y = unsafe { y.part((column * rows + first) * columns, count * columns) };
        let queries = &qc[(column * rows + first) * dim..][..count * dim];
        let keys = &kc[kv_row * columns * dim..][..columns * dim];
        multiply(queries, keys, (count, dim, most), scale, columns, y);
        let keep = keep.map(|keep| &keep[kv_row * columns..(kv_row + 1) * columns]);
        for (row, y) in y.chunks_exact_mut(columns).enumerate() {
            let seen = visible(first + row);
            let hidden = if softmax { f32::NEG_INFINITY } else { HIDDEN };
            y[seen..].fill(if softmax { 0.0 } else { HIDDEN });
            let y = &mut y[..seen];
            let left_out = |column: usize| keep.is_some_and(|keep| keep[column] == 0.0);
            (0..seen)
                .filter(|&column| left_out(column))
                .for_each(|column| y[column] = hidden);
            if softmax {
                simd_dispatch!(cpu, normalize(y: &mut [f32]));
                (0..seen)
                    .filter(|&column| left_out(column))
                    .for_each(|column| y[column] = 0.0);
            }
        }
    });
    Ok(())
}

/// y[row][column] = scale · queries[row] · keys[column] for the first `n` columns of each row of `width`.
fn multiply(queries: &[f32], keys: &[f32], (m, k, n): (usize, usize, usize), scale: f32, width: usize, y: &mut [f32]) {
    if n == 0 || m == 0 {
        return;
    }
    debug_assert!(queries.len() >= m * k && keys.len() >= n * k && y.len() >= (m - 1) * width + n);
    // SAFETY: m rows of k queries, n rows of k keys, m rows of y that are `width` apart and have n elements.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            scale,
            queries.as_ptr(),
            k as isize,
            1,
            keys.as_ptr(),
            1,
            k as isize,
            0.0,
            y.as_mut_ptr(),
            width as isize,
            1,
        );
    }
}

/// Softmax of a row in place; −∞ alone gives NaN.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn normalize<S: Simd>(row: &mut [f32]) {
    let whole = row.len() - row.len() % S::LANES;
    let largest = row.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    let mut sum = 0f64;
    // SAFETY: the caller's promise; vectors below `whole`.
    unsafe {
        let mut tail = [f32::NEG_INFINITY; 16];
        tail[..row.len() - whole].copy_from_slice(&row[whole..]);
        let mut parts = [0f32; 16];
        let mut sums = S::splat(0.0);
        for at in (0..whole).step_by(S::LANES) {
            let value = exp::<S>(S::sub(S::load(row.as_ptr().add(at)), S::splat(largest)));
            S::store(row.as_mut_ptr().add(at), value);
            sums = S::add(sums, value);
        }
        S::store(parts.as_mut_ptr(), sums);
        sum += parts[..S::LANES].iter().map(|&part| f64::from(part)).sum::<f64>();
        if whole < row.len() {
            let value = exp::<S>(S::sub(S::load(tail.as_ptr()), S::splat(largest)));
            S::store(tail.as_mut_ptr(), value);
            for (value, &tail) in row[whole..].iter_mut().zip(&tail) {
                *value = tail;
                sum += f64::from(tail);
            }
        }
    }
    let inverse = (1.0 / sum) as f32;
    row.iter_mut().for_each(|value| *value *= inverse);
}
