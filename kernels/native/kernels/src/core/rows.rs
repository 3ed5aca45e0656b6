//! Rows by index. Contracts: packages/core-tensor/src/ops/{gather-rows,scatter-rows,take-along-axis}.ts.

use crate::call::Call;
use crate::pool::for_rows;
use crate::{ensure, KernelError};

fn checked(id: i32, rows: usize, op: &str) -> Result<usize, KernelError> {
    ensure!(
        id >= 0 && (id as usize) < rows,
        "{op}: id {id} is outside of a table of {rows} rows"
    );
    Ok(id as usize)
}

pub fn gather(call: &mut Call) -> Result<(), KernelError> {
    let table = call.input(0)?;
    ensure!(!table.shape.is_empty(), "gather-rows: table is a scalar");
    let rows = table.shape[0];
    let ids = call.input(1)?.i32s()?;
    let width = table.shape[1..].iter().product::<usize>() * table.dtype.size();
    ensure!(
        table.bytes.len() == rows * width,
        "gather-rows: table does not have {rows} rows of {width} bytes"
    );
    for &id in ids {
        checked(id, rows, "gather-rows")?;
    }
    let pool = call.pool;
    let y = call.output(0)?;
    ensure!(
        y.dtype == table.dtype && y.bytes.len() == ids.len() * width,
        "gather-rows: y does not fit"
    );
    for_rows(pool, y.bytes, ids.len(), 1 << 17, |first, part| {
        for (row, out) in part.chunks_exact_mut(width.max(1)).enumerate() {
            let at = ids[first + row] as usize * width;
            out.copy_from_slice(&table.bytes[at..at + width]);
        }
    });
    Ok(())
}

pub fn scatter(call: &mut Call) -> Result<(), KernelError> {
    let add = call.attr_usize(0)? == 1;
    let x = call.input(0)?;
    ensure!(x.shape.len() == 2, "scatter-rows: x must have two axes");
    let (count, width) = (x.shape[0], x.shape[1]);
    let x = x.f32s()?;
    let ids = call.input(1)?.i32s()?;
    let rows = call.input(2)?.f32s()?;
    ensure!(rows.len() == ids.len() * width, "scatter-rows: rows do not match ids and x");
    let y = call.output(0)?.f32s()?;
    ensure!(y.len() == x.len(), "scatter-rows: y does not fit x");
    for &id in ids {
        checked(id, count, "scatter-rows")?;
    }
    y.copy_from_slice(x);
    for (row, &id) in ids.iter().enumerate() {
        let out = &mut y[id as usize * width..][..width];
        for (out, &value) in out.iter_mut().zip(&rows[row * width..(row + 1) * width]) {
            *out = if add { *out + value } else { value };
        }
    }
    Ok(())
}

pub fn take_along_axis(call: &mut Call) -> Result<(), KernelError> {
    let x = call.input(0)?;
    let indices = call.input(1)?;
    ensure!(
        x.shape.len() == 2 && indices.shape.len() == 2 && x.shape[0] == indices.shape[0],
        "take-along-axis: rows differ"
    );
    let (width, count) = (x.shape[1], indices.shape[1]);
    let (x, indices) = (x.f32s()?, indices.i32s()?);
    let y = call.output(0)?.f32s()?;
    ensure!(y.len() == indices.len(), "take-along-axis: y does not fit indices");
    for (at, &index) in indices.iter().enumerate() {
        y[at] = x[at / count * width + checked(index, width, "take-along-axis")?];
    }
    Ok(())
}
