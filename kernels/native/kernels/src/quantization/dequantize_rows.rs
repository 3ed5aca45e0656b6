//! quantization_dequantize_rows — y[i] = row ids[i] of the file rows, as f32: the embedding lookup. Contract:
//! packages/quantization/src/ops/dequantize-rows.ts. Moves R·(rowBytes + 4 K) bytes.

use super::format::WeightType;
use super::rows::decode_row;
use crate::call::Call;
use crate::pool::for_rows;
use crate::{ensure, KernelError};

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let kind = WeightType::from_id(call.attr_usize(0)?)?;
    let k = call.attr_usize(1)?;
    let blocks = call.input(0)?;
    ensure!(blocks.shape.len() == 2, "dequantize-rows: blocks must have two axes");
    let (rows, row_bytes) = (blocks.shape[0], kind.row_bytes(k)?);
    ensure!(
        blocks.shape[1] == row_bytes,
        "dequantize-rows: rows have {} bytes, {k} inputs take {row_bytes}",
        blocks.shape[1]
    );
    let source = blocks.elements::<u8>()?;
    let ids = call.input(1)?.i32s()?;
    for &id in ids {
        ensure!(
            id >= 0 && (id as usize) < rows,
            "dequantize-rows: id {id} is outside of a table of {rows} rows"
        );
    }
    let pool = call.pool;
    let y = call.output(0)?.f32s()?;
    ensure!(
        y.len() == ids.len() * k,
        "dequantize-rows: y has {} elements, needs {} x {k}",
        y.len(),
        ids.len()
    );
    for_rows(pool, y, ids.len(), 1 << 15, |first, part| {
        for (row, values) in part.chunks_exact_mut(k).enumerate() {
            let id = ids[first + row] as usize;
            decode_row(kind, &source[id * row_bytes..(id + 1) * row_bytes], values);
        }
    });
    Ok(())
}
