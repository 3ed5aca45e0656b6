//! Largest elements and order. Contracts: packages/core-tensor/src/ops/{top-k,arg-max,arg-sort}.ts. NaN counts as greatest, ties go to
//! the lower index.

use crate::call::Call;
use crate::{ensure, KernelError};
use std::cmp::Ordering;

/// Ascending with NaN greatest.
fn ascending(a: f32, b: f32) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
    }
}

fn rows_of<'a>(call: &Call<'_, 'a>, op: &str) -> Result<(usize, usize, &'a [f32]), KernelError> {
    let x = call.input(0)?;
    ensure!(x.shape.len() == 2, "{op}: x must be [rows, n]");
    Ok((x.shape[0], x.shape[1], x.f32s()?))
}

pub fn top_k(call: &mut Call) -> Result<(), KernelError> {
    let k = call.attr_usize(0)?;
    let (rows, width, x) = rows_of(call, "top-k")?;
    ensure!(k <= width || rows == 0, "top-k: k is {k}, rows have {width} elements");
    let mut picked = Vec::with_capacity(rows * k);
    for row in 0..rows {
        let x = &x[row * width..(row + 1) * width];
        let mut order: Vec<u32> = (0..width as u32).collect();
        let by_value = |&a: &u32, &b: &u32| ascending(x[b as usize], x[a as usize]).then(a.cmp(&b));
        if k > 0 && k < width {
            order.select_nth_unstable_by(k - 1, by_value);
        }
        order.truncate(k);
        order.sort_unstable_by(by_value);
        picked.extend(order.into_iter().map(|index| (index, x[index as usize])));
    }
    let values = call.output(0)?.f32s()?;
    ensure!(values.len() == picked.len(), "top-k: values do not fit");
    for (out, &(_, value)) in values.iter_mut().zip(&picked) {
        *out = value;
    }
    let indices = call.output(1)?.i32s()?;
    ensure!(indices.len() == picked.len(), "top-k: indices do not fit");
    for (out, &(index, _)) in indices.iter_mut().zip(&picked) {
        *out = index as i32;
    }
    Ok(())
}

pub fn arg_max(call: &mut Call) -> Result<(), KernelError> {
    let (rows, width, x) = rows_of(call, "arg-max")?;
    let y = call.output(0)?.i32s()?;
    ensure!(
        y.len() == rows && (width > 0 || rows == 0),
        "arg-max: y does not fit or rows are empty"
    );
    for (row, out) in y.iter_mut().enumerate() {
        let x = &x[row * width..(row + 1) * width];
        let mut best = 0;
        for (index, &value) in x.iter().enumerate() {
            if value > x[best] || (value.is_nan() && !x[best].is_nan()) {
                best = index;
            }
        }
        *out = best as i32;
    }
    Ok(())
}

pub fn arg_sort(call: &mut Call) -> Result<(), KernelError> {
    let descending = call.attr_bool(0)?;
    let (rows, width, x) = rows_of(call, "arg-sort")?;
    let y = call.output(0)?.i32s()?;
    ensure!(y.len() == rows * width, "arg-sort: y does not fit");
    for row in 0..rows {
        let x = &x[row * width..(row + 1) * width];
        let y = &mut y[row * width..(row + 1) * width];
        for (index, out) in y.iter_mut().enumerate() {
            *out = index as i32;
        }
        y.sort_by(|&a, &b| {
            let order = ascending(x[a as usize], x[b as usize]);
            if descending {
                order.reverse()
            } else {
                order
            }
        });
    }
    Ok(())
}
