//! kv_cache_decode — pages of codes → rows. Contract: packages/kv-cache/src/ops/decode.ts.
//! coded u8 [pages,Hk,bytes], ids i32 [n] → rows f32 [n,Hk,P,D]; writes 4 bytes a number. Pages of heads over the pool.

use super::layout::{half_at, Format, Layout, Pages, Side};
use super::pruned;
use crate::call::{Call, DType};
use crate::pool::for_rows;
use crate::{ensure, KernelError};

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let (side, format) = (
        Side::from_index(call.attr_usize(0)?)?,
        Format::from_index(call.attr_usize(1)?)?,
    );
    let layout = Layout::new(format, side, call.attr_usize(2)?, call.attr_usize(3)?)?;
    let coded = call.input(0)?;
    ensure!(coded.dtype == DType::U8, "decode: coded is {:?}, it takes u8", coded.dtype);
    let pages = Pages::new(layout, coded.bytes, coded.shape)?;
    let ids = call.input(1)?.i32s()?;
    ensure!(
        ids.iter().all(|&id| id >= 0 && (id as usize) < pages.count),
        "decode: an id is outside of the {} pages",
        pages.count
    );
    let (pool, heads) = (call.pool, pages.heads);
    let rows = call.output(0)?.f32s()?;
    let size = layout.page_size * layout.dim;
    ensure!(
        rows.len() == ids.len() * heads * size,
        "decode: rows have {} numbers, {} pages of {heads} heads have {}",
        rows.len(),
        ids.len(),
        ids.len() * heads * size
    );
    for_rows(pool, rows, ids.len() * heads, size, |first, part| {
        for (index, out) in part.chunks_exact_mut(size).enumerate() {
            let at = first + index;
            decode_page(&layout, pages.page(ids[at / heads] as usize, at % heads), out);
        }
    });
    Ok(())
}

fn decode_page(layout: &Layout, page: &[u8], out: &mut [f32]) {
    if let Some(pruned) = &layout.pruned {
        return pruned::decode_page(layout, pruned, page, out);
    }
    let mask = layout.format.levels() as u8;
    let levels = layout.levels.map_or([0.0; 16], |levels| levels.values);
    for (entry, out) in out.chunks_exact_mut(layout.dim).enumerate() {
        for (channel, out) in out.iter_mut().enumerate() {
            let (row, column) = layout.cell(entry, channel);
            let (byte, shift) = layout.place(row, column);
            let at = 2 * layout.scale_of(row, column);
            let scale = half_at(page, layout.code_bytes + at);
            let code = page[byte] >> shift & mask;
            *out = match layout.format {
                Format::Int8 => f32::from(page[byte] as i8) * scale,
                Format::Turbo4 | Format::Turbo2 => levels[usize::from(code)] * scale,
                // The product is exact: four bits and eleven.
                Format::Kivi4 | Format::Kivi2 => f32::from(code) * scale + half_at(page, layout.zeros_at() + at),
                // Decoded above.
                Format::Bitmap(_) => 0.0,
            };
        }
    }
}
