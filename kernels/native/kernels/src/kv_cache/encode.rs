//! kv_cache_encode — pages of rows → pages of codes. Contract: packages/kv-cache/src/ops/encode.ts, which this repeats bit for bit.
//! pages f32 or f16 [pages,Hk,P,D] → coded u8 [pages,Hk,bytes]. Reads every row twice; pages of heads over the pool.

use super::layout::{Format, Layout, Side, GROUP};
use super::levels::{shortened, Levels};
use super::pruned;
use crate::call::{Call, DType, TensorRef};
use crate::pool::Disjoint;
use crate::{ensure, KernelError};
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::sync::atomic::{AtomicBool, Ordering};

/// The largest magnitude that half precision holds.
const LARGEST: f32 = 65504.0;
/// The largest mean square of an entry whose scale half precision holds, but for the rounding of a rotation: 2^32.
const LARGEST_MEAN_SQUARE: f32 = (1u64 << 32) as f32;
/// Numbers below count as 0 where squares are summed: 2^-60.
const SMALLEST_SQUARED: f32 = 1.0 / (1u64 << 60) as f32;

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let (side, format) = (
        Side::from_index(call.attr_usize(0)?)?,
        Format::from_index(call.attr_usize(1)?)?,
    );
    let pages = call.input(0)?;
    let (sources, targets) = (call.input(1)?.i32s()?, call.input(2)?.i32s()?);
    ensure!(
        pages.shape.len() == 4 && [DType::F32, DType::F16].contains(&pages.dtype),
        "encode: pages are {:?} {:?}, they take four axes of f32 or f16",
        pages.dtype,
        pages.shape
    );
    let (count, heads) = (pages.shape[0], pages.shape[1]);
    let layout = Layout::new(format, side, pages.shape[2], pages.shape[3])?;
    let pool = call.pool;
    let coded = call.output(0)?;
    ensure!(
        coded.shape.len() == 3 && coded.shape[1] == heads && coded.shape[2] == layout.bytes,
        "encode: coded is {:?}, {side:?} in {format:?} take [pages, {heads}, {}]",
        coded.shape,
        layout.bytes
    );
    check_ids(sources, targets, (count, coded.shape[0]))?;
    let coded = coded.elements::<u8>()?;
    let (jobs, size) = (sources.len() * heads, layout.page_size * layout.dim);
    let source = |job: usize| (sources[job / heads] as usize * heads + job % heads) * size;
    let refused = AtomicBool::new(false);
    pool.run(jobs, &|job| {
        let fine = with_rows(&pages, source(job), size, |rows| encodable(&layout, rows));
        if !matches!(fine, Ok(true)) {
            refused.store(true, Ordering::Relaxed);
        }
    });
    ensure!(
        !refused.load(Ordering::Relaxed),
        "encode: a row has a number that half precision does not hold"
    );
    let coded = Disjoint::new(coded);
    pool.run(jobs, &|job| {
        let at = (targets[job / heads] as usize * heads + job % heads) * layout.bytes;
        // SAFETY: targets differ, so the pages of jobs do not overlap; `coded` outlives the call.
        let page = unsafe { coded.part(at, layout.bytes) };
        // The first pass read the same rows.
        let _ = with_rows(&pages, source(job), size, |rows| encode_page(&layout, rows, page));
    });
    Ok(())
}

/// Everything that can be wrong with page ids.
fn check_ids(sources: &[i32], targets: &[i32], (count, coded): (usize, usize)) -> Result<(), KernelError> {
    ensure!(
        sources.len() == targets.len(),
        "encode: {} sources, {} targets",
        sources.len(),
        targets.len()
    );
    let within = |ids: &[i32], count: usize| ids.iter().all(|&id| id >= 0 && (id as usize) < count);
    ensure!(within(sources, count), "encode: a source is outside of the {count} pages");
    ensure!(
        within(targets, coded),
        "encode: a target is outside of the {coded} coded pages"
    );
    let mut sorted = targets.to_vec();
    sorted.sort_unstable();
    ensure!(
        sorted.windows(2).all(|pair| pair[0] != pair[1]),
        "encode: a page is a target twice"
    );
    Ok(())
}

/// Some elements of the pages as f32.
fn with_rows<T>(pages: &TensorRef, at: usize, size: usize, body: impl FnOnce(&[f32]) -> T) -> Result<T, KernelError> {
    if pages.dtype == DType::F16 {
        let mut wide = vec![0f32; size];
        pages.elements::<f16>()?[at..at + size].convert_to_f32_slice(&mut wide);
        return Ok(body(&wide));
    }
    Ok(body(&pages.f32s()?[at..at + size]))
}

/// Whether half precision holds what it has to: numbers, or of entries with levels the root of the mean square. NaN is refused.
fn encodable(layout: &Layout, rows: &[f32]) -> bool {
    match layout.levels {
        None => rows.iter().all(|value| value.abs() <= LARGEST),
        Some(_) => rows
            .chunks_exact(layout.dim)
            .all(|row| squares_of(row) <= LARGEST_MEAN_SQUARE * layout.dim as f32),
    }
}

/// Rows [P, D] of one head → its page.
fn encode_page(layout: &Layout, rows: &[f32], page: &mut [u8]) {
    page.fill(0);
    if let Some(pruned) = &layout.pruned {
        return pruned::encode_page(layout, pruned, rows, page);
    }
    match (layout.levels, layout.format) {
        (Some(levels), _) => encode_levels(layout, &levels, rows, page),
        (None, Format::Int8) => encode_entries(layout, rows, page),
        _ => encode_groups(layout, rows, page),
    }
}

/// A scale per entry.
fn encode_entries(layout: &Layout, rows: &[f32], page: &mut [u8]) {
    for (entry, row) in rows.chunks_exact(layout.dim).enumerate() {
        let most = row.iter().fold(0f32, |most, &value| most.max(value.abs()));
        let scale = scale_over(most, layout.format.levels());
        put_half(page, layout.code_bytes + 2 * entry, scale);
        let scale = scale.to_f64();
        for (channel, &value) in row.iter().enumerate() {
            let (row, column) = layout.cell(entry, channel);
            let code = nearest(value, scale).clamp(-127.0, 127.0);
            page[layout.place(row, column).0] = code as i8 as u8;
        }
    }
}

/// A scale per entry, the root of the mean square; codes are the nearest levels.
fn encode_levels(layout: &Layout, levels: &Levels, rows: &[f32], page: &mut [u8]) {
    for (entry, row) in rows.chunks_exact(layout.dim).enumerate() {
        let scale = scale_of_squares(squares_of(row), layout.dim);
        put_half(page, layout.code_bytes + 2 * entry, scale);
        let scale = scale.to_f32();
        for (channel, &value) in row.iter().enumerate() {
            let (row, column) = layout.cell(entry, channel);
            let (byte, shift) = layout.place(row, column);
            page[byte] |= levels.code(value, scale) << shift;
        }
    }
}

/// A scale and a zero per row of a group.
fn encode_groups(layout: &Layout, rows: &[f32], page: &mut [u8]) {
    let levels = layout.format.levels();
    let mut values = [0f32; GROUP];
    for group in 0..layout.groups {
        let first = group * GROUP;
        let count = GROUP.min(layout.columns - first);
        for row in 0..layout.rows {
            for (index, value) in values[..count].iter_mut().enumerate() {
                *value = match layout.side {
                    Side::Keys => rows[(first + index) * layout.dim + row],
                    Side::Values => rows[row * layout.dim + first + index],
                };
            }
            let values = &values[..count];
            let low = values.iter().fold(LARGEST, |low, &value| low.min(value));
            let high = values.iter().fold(-LARGEST, |high, &value| high.max(value));
            let zero = half_below(low);
            let scale = scale_over(high - zero.to_f32(), levels);
            let at = 2 * layout.scale_of(row, first);
            put_half(page, layout.code_bytes + at, scale);
            put_half(page, layout.zeros_at() + at, zero);
            let (zero, scale) = (zero.to_f32(), scale.to_f64());
            for (index, &value) in values.iter().enumerate() {
                let code = nearest(value - zero, scale).clamp(0.0, f64::from(levels));
                let (byte, shift) = layout.place(row, first + index);
                page[byte] |= (code as u8) << shift;
            }
        }
    }
}

fn put_half(page: &mut [u8], at: usize, value: f16) {
    page[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// value / scale, half-way cases to even, of quotients below 2^50; exact, as f64 tells all quotients of f32 and f16 from halves. Sums with this
/// number have no fractions, and need no instruction that the baseline lacks.
fn nearest(value: f32, scale: f64) -> f64 {
    const WHOLE: f64 = 6_755_399_441_055_744.0;
    f64::from(value) / scale + WHOLE - WHOLE
}

/// The largest half-precision number that is not above `value`, which is within their range; zero is positive.
fn half_below(value: f32) -> f16 {
    if value == 0.0 {
        return f16::ZERO;
    }
    let near = f16::from_f32(value);
    if near.to_f32() <= value {
        return near;
    }
    let bits = near.to_bits();
    f16::from_bits(match bits {
        0 | 0x8000 => 0x8001,
        _ if bits & 0x8000 == 0 => bits - 1,
        _ => bits + 1,
    })
}

/// The sum of the squares of an entry, in order; every square is exact.
fn squares_of(row: &[f32]) -> f32 {
    let square = |&value: &f32| match value.abs() < SMALLEST_SQUARED {
        true => 0.0,
        false => shortened(value) * shortened(value),
    };
    row.iter().map(square).fold(0.0, |sum, square| sum + square)
}

/// The smallest half-precision number whose square `dim` times reaches the sum; the largest one where none does.
fn scale_of_squares(squares: f32, dim: usize) -> f16 {
    let reaches = |bits: u16| {
        let scale = f16::from_bits(bits).to_f64();
        scale * scale * dim as f64 >= f64::from(squares)
    };
    let mut bits = f16::from_f32((squares / dim as f32).sqrt().min(LARGEST)).to_bits();
    while bits < f16::MAX.to_bits() && !reaches(bits) {
        bits += 1;
    }
    while bits > 0 && reaches(bits - 1) {
        bits -= 1;
    }
    f16::from_bits(bits)
}

/// The smallest half-precision number of which `levels` reach `range`; 1 where there is none to cross.
fn scale_over(range: f32, levels: f32) -> f16 {
    if range < f32::MIN_POSITIVE {
        return f16::ONE;
    }
    let reaches = |bits: u16| f16::from_bits(bits).to_f64() * f64::from(levels) >= f64::from(range);
    let mut bits = f16::from_f32(range / levels).to_bits();
    while !reaches(bits) {
        bits += 1;
    }
    while bits > 1 && reaches(bits - 1) {
        bits -= 1;
    }
    f16::from_bits(bits)
}
