//! sparse_attention_selection_indices — bits to key lists. Contract: packages/sparse-attention/src/select/selection-indices.ts.

use super::args::{axes, block, lengths, limit, Lengths};
use crate::call::Call;
use crate::{ensure, KernelError};

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let op = "selection-indices";
    let bits = call.input(0)?;
    let [batch, heads, rows, words] = axes(op, "bits", &bits)?;
    let (unit, slots, length_k) = (block(call, 0)?, call.attr_usize(1)?, limit(call, 2)?);
    let most = 32 * words * unit;
    let keys = match (call.optional(1), length_k) {
        (None, Some(keys)) => keys.min(most),
        _ => most,
    };
    let lengths = lengths(op, call.optional(1), batch, Lengths { queries: rows, keys })?;
    let bits = bits.elements::<u32>()?;
    let total = batch * heads * rows;
    let [indices, cells] = call.outputs else {
        return Err(KernelError(format!("{op}: indices and cells are missing")));
    };
    let (indices, cells) = (indices.i32s()?, cells.f32s()?);
    ensure!(
        Some(indices.len()) == total.checked_mul(slots) && cells.len() == total,
        "{op}: indices or cells do not fit"
    );
    for (row, cells) in cells.iter_mut().enumerate() {
        let out = &mut indices[row * slots..(row + 1) * slots];
        let positions = lengths[row / (heads * rows)].positions(row % rows, 1);
        let limit = positions.map_or(0, |(_, last)| last + 1).clamp(0, i64::from(i32::MAX)) as usize;
        let count = list(&bits[row * words..(row + 1) * words], unit, limit, out);
        out[count..].fill(-1);
        *cells = count as f32;
    }
    Ok(())
}

/// Writes the keys below `limit` of the set bits, as many as fit; returns how many.
fn list(words: &[u32], unit: usize, limit: usize, out: &mut [i32]) -> usize {
    let mut count = 0;
    for (index, &word) in words.iter().enumerate() {
        let mut left = word;
        while left != 0 {
            let first = (32 * index + left.trailing_zeros() as usize) * unit;
            left &= left - 1;
            let keys = limit.saturating_sub(first).min(unit).min(out.len() - count);
            for (index, slot) in out[count..count + keys].iter_mut().enumerate() {
                *slot = (first + index) as i32;
            }
            count += keys;
        }
    }
    count
}
