//! kv_cache_append — writes new keys and values into their slots of the pages. Contract: packages/kv-cache/src/ops/append.ts.
//! k [n,Hk,D], v [n,Hk,Dv] f32; pages [pages,Hk,P,D|Dv] f32 or f16; slots i32 [n], slot = page · P + entry.
//! Moves 4·n·Hk·(D + Dv) bytes in and as many elements out; never touches other entries.

use crate::call::{Call, DType, TensorMut, TensorRef};
use crate::{ensure, KernelError};
use half::f16;
use half::slice::HalfFloatSliceExt;

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let (k, v) = (call.input(2)?, call.input(3)?);
    let slots = call.input(4)?.i32s()?;
    let [key_pages, value_pages] = call.outputs else {
        return Err(KernelError("append: the pages are missing".into()));
    };
    check(key_pages, &k, slots)?;
    check(value_pages, &v, slots)?;
    scatter(key_pages, &k, slots)?;
    scatter(value_pages, &v, slots)
}

/// Everything that can be wrong, before anything is written.
fn check(pages: &TensorMut, rows: &TensorRef, slots: &[i32]) -> Result<(), KernelError> {
    ensure!(
        pages.shape.len() == 4 && rows.shape.len() == 3,
        "append: pages must have four axes, rows three"
    );
    ensure!(
        rows.shape[0] == slots.len() && rows.shape[1] == pages.shape[1] && rows.shape[2] == pages.shape[3],
        "append: rows {:?} do not fit pages {:?} and {} slots",
        rows.shape,
        pages.shape,
        slots.len()
    );
    let count = pages.shape[0] * pages.shape[2];
    ensure!(
        slots.iter().all(|&slot| slot >= 0 && (slot as usize) < count),
        "append: a slot is outside of the {count} entries"
    );
    rows.f32s().map(|_| ())
}

fn scatter(pages: &mut TensorMut, rows: &TensorRef, slots: &[i32]) -> Result<(), KernelError> {
    let (heads, page_size, dim) = (pages.shape[1], pages.shape[2], pages.shape[3]);
    let source = rows.f32s()?;
    let place = |index: usize, head: usize| {
        let slot = slots[index] as usize;
        ((slot / page_size * heads + head) * page_size + slot % page_size) * dim
    };
    if dim == 0 {
        return Ok(());
    }
    match pages.dtype {
        DType::F16 => {
            let target = pages.elements::<f16>()?;
            for (row, values) in source.chunks_exact(dim).enumerate() {
                let at = place(row / heads, row % heads);
                target[at..at + dim].convert_from_f32_slice(values);
            }
        }
        _ => {
            let target = pages.f32s()?;
            for (row, values) in source.chunks_exact(dim).enumerate() {
                let at = place(row / heads, row % heads);
                target[at..at + dim].copy_from_slice(values);
            }
        }
    }
    Ok(())
}
