//! Copies between shapes, any dtype. Contracts: packages/core-tensor/src/ops/{slice,permute,write-slice}.ts.

use crate::call::Call;
use crate::pool::for_rows;
use crate::{ensure, KernelError, Pool};

fn strides_of(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// y[i…] = source[start + Σ i·stride], runs of contiguous elements at once.
fn strided(
    pool: &dyn Pool,
    source: &[u8],
    size: usize,
    shape: &[usize],
    start: usize,
    strides: &[usize],
    y: &mut [u8],
) -> Result<(), KernelError> {
    if y.is_empty() {
        return Ok(());
    }
    let last = start
        + shape
            .iter()
            .zip(strides)
            .map(|(&dimension, &stride)| (dimension - 1) * stride)
            .sum::<usize>();
    ensure!(
        (last + 1) * size <= source.len(),
        "copy: the result reaches beyond its source"
    );
    let (run, outer) = match (shape.last(), strides.last()) {
        (Some(&dimension), Some(1)) => (dimension, &shape[..shape.len() - 1]),
        _ => (1, shape),
    };
    let rows = outer.iter().product::<usize>();
    for_rows(pool, y, rows, 1 << 17, |first, part| {
        for (row, out) in part.chunks_exact_mut(run * size).enumerate() {
            let (mut rest, mut at) = (first + row, start);
            for axis in (0..outer.len()).rev() {
                at += rest % outer[axis] * strides[axis];
                rest /= outer[axis];
            }
            out.copy_from_slice(&source[at * size..(at + run) * size]);
        }
    });
    Ok(())
}

pub fn slice(call: &mut Call) -> Result<(), KernelError> {
    let (starts, next) = call.attr_list(0)?;
    let (sizes, _) = call.attr_list(next)?;
    let x = call.input(0)?;
    let pool = call.pool;
    let y = call.output(0)?;
    let fits = starts.len() == x.shape.len()
        && sizes.len() == x.shape.len()
        && x.shape
            .iter()
            .zip(&starts)
            .zip(&sizes)
            .all(|((&d, &start), &size)| start >= 0 && size >= 0 && (start + size) as usize <= d);
    ensure!(
        fits && y.dtype == x.dtype,
        "slice: {starts:?} with {sizes:?} does not fit {:?}",
        x.shape
    );
    let strides = strides_of(x.shape);
    let start = starts
        .iter()
        .zip(&strides)
        .map(|(&start, &stride)| start as usize * stride)
        .sum();
    let shape: Vec<usize> = sizes.iter().map(|&size| size as usize).collect();
    ensure!(
        y.bytes.len() == shape.iter().product::<usize>() * x.dtype.size(),
        "slice: y does not fit {sizes:?}"
    );
    strided(pool, x.bytes, x.dtype.size(), &shape, start, &strides, y.bytes)
}

pub fn permute(call: &mut Call) -> Result<(), KernelError> {
    let (axes, _) = call.attr_list(0)?;
    let x = call.input(0)?;
    let pool = call.pool;
    let y = call.output(0)?;
    let mut sorted = axes.clone();
    sorted.sort_unstable();
    let valid = sorted.iter().enumerate().all(|(index, &axis)| axis == index as i64) && axes.len() == x.shape.len();
    ensure!(
        valid && y.dtype == x.dtype && y.bytes.len() == x.bytes.len(),
        "permute: {axes:?} does not permute {:?}",
        x.shape
    );
    let own = strides_of(x.shape);
    let shape: Vec<usize> = axes.iter().map(|&axis| x.shape[axis as usize]).collect();
    let strides: Vec<usize> = axes.iter().map(|&axis| own[axis as usize]).collect();
    strided(pool, x.bytes, x.dtype.size(), &shape, 0, &strides, y.bytes)
}

pub fn write_slice(call: &mut Call) -> Result<(), KernelError> {
    let (axis, start) = (call.attr_usize(0)?, call.attr_usize(1)?);
    let source = call.input(1)?;
    let target = call.output(0)?;
    let fits = source.dtype == target.dtype
        && source.shape.len() == target.shape.len()
        && axis < target.shape.len()
        && source.shape.iter().enumerate().all(|(at, &d)| {
            if at == axis {
                start + d <= target.shape[at]
            } else {
                d == target.shape[at]
            }
        });
    ensure!(
        fits,
        "write-slice: {:?} does not fit {:?} at {start} of axis {axis}",
        source.shape,
        target.shape
    );
    let inner = target.shape[axis + 1..].iter().product::<usize>() * target.dtype.size();
    let (width, part) = (target.shape[axis] * inner, source.shape[axis] * inner);
    if part == 0 {
        return Ok(());
    }
    for (row, source) in source.bytes.chunks_exact(part).enumerate() {
        let at = row * width + start * inner;
        target.bytes[at..at + part].copy_from_slice(source);
    }
    Ok(())
}
