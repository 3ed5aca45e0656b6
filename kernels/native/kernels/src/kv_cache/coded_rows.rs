//! Some queries against the codes of a page, straight from memory to registers.
//!
//! Scores and sums of values are the same product: rows of factors times a matrix of codes, whose columns — entries of keys, channels of values —
//! lie in the lanes. Scales and zeros of rows are folded into the factors and into what sums start from, so codes are widened and nothing else;
//! scales of columns multiply the sums. The codes of a group of columns are read once for all rows of queries.

#[cfg(target_arch = "x86_64")]
use super::coded_dots;
use super::coded_weights::{total, weigh};
use super::layout::{Format, Layout, Side, CHUNK, GROUP};
use super::level_lanes::LevelLanes;
use super::pruned_rows;
use crate::simd::Simd;
use crate::sparse_attention::ahead::Ahead;
use crate::sparse_attention::tile::cap_scores;
use crate::{simd_dispatch, Cpu};

/// Query rows that share the codes in registers.
pub fn most_rows(cpu: Cpu) -> usize {
    match cpu {
        Cpu::Avx512 => 4,
        Cpu::Avx2 | Cpu::Neon => 3,
        Cpu::Scalar => 1,
    }
}

/// Query rows of a pass, at most [`most_rows`], and where they stand.
pub struct Rows<'a> {
    pub count: usize,
    /// Per row: D numbers, scaled, padded with 0 to the rows of the key pages.
    pub queries: &'a [f32],
    pub largest: &'a mut [f32],
    pub sums: &'a mut [f32],
    /// Per row: the columns of the value pages, padded.
    pub output: &'a mut [f32],
}

/// Scratch of a pass, of [`scratch_of`] numbers for a row; scores are the entries of a page for a row.
pub struct Scratch<'a> {
    pub scores: &'a mut [f32],
    pub alpha: &'a mut [f32],
    pub factors: &'a mut [f32],
    /// What sums start from, per row and group: the zeros' share.
    pub start: &'a mut [f32],
}

/// The page of a head of one side, and what to ask for while it is worked on.
#[derive(Clone, Copy)]
pub struct Page<'a> {
    pub layout: &'a Layout,
    pub bytes: &'a [u8],
    pub ahead: &'a [&'a [u8]],
}

/// Factors and starts of a row of queries.
pub fn scratch_of(layout: &Layout) -> (usize, usize) {
    (layout.groups * layout.padded_rows, layout.groups)
}

/// The rows attend to a page.
pub fn attend(cpu: Cpu, keys: Page, values: Page, softcap: f32, rows: &mut Rows, scratch: &mut Scratch) {
    let count = rows.count;
    let scores = &mut scratch.scores[..count * keys.layout.page_size];
    let (factors, start) = (&mut *scratch.factors, &mut *scratch.start);
    let product = Product {
        page: keys,
        rows: count,
        numbers: rows.queries,
        alpha: None,
    };
    multiply(cpu, &product, factors, start, scores);
    if softcap > 0.0 {
        cap_scores(scores, softcap);
    }
    let alpha = &mut scratch.alpha[..count];
    weigh(cpu, scores, (&mut *rows.largest, &mut *rows.sums), alpha);
    let product = Product {
        page: values,
        rows: count,
        numbers: scores,
        alpha: Some(alpha),
    };
    multiply(cpu, &product, factors, start, rows.output);
}

/// Rows of numbers to multiply the codes of a page with.
pub struct Product<'a> {
    pub page: Page<'a>,
    pub rows: usize,
    /// Per row of queries, a number for every padded row of the page.
    pub numbers: &'a [f32],
    /// How much what is in the sums already counts; there is nothing in them without it.
    pub alpha: Option<&'a [f32]>,
}

/// sums[row][column] = Σ number · decoded code.
fn multiply(cpu: Cpu, product: &Product, factors: &mut [f32], start: &mut [f32], sums: &mut [f32]) {
    let Page { layout, bytes, .. } = product.page;
    let (count, rows) = (layout.padded_rows, product.rows);
    assert!(
        rows > 0
            && rows <= most_rows(cpu)
            && bytes.len() == layout.bytes
            && product.numbers.len() >= rows * count
            && factors.len() >= rows * layout.groups * count
            && start.len() >= rows * layout.groups
            && sums.len() >= rows * layout.groups * GROUP
            && product.alpha.is_none_or(|alpha| alpha.len() >= rows)
    );
    if let Some(pruned) = &layout.pruned {
        return pruned_rows::multiply(cpu, product, pruned, sums);
    }
    #[cfg(target_arch = "x86_64")]
    if cpu == Cpu::Avx512 {
        match layout.format {
            // SAFETY: the path was found on this machine; the lengths are those above.
            Format::Kivi4 => return unsafe { coded_dots::multiply::<4>(product, factors, sums) },
            // SAFETY: as above.
            Format::Kivi2 => return unsafe { coded_dots::multiply::<2>(product, factors, sums) },
            _ => {}
        }
    }
    simd_dispatch!(cpu, multiply_path(product: &Product, factors: &mut [f32], start: &mut [f32], sums: &mut [f32]));
}

/// # Safety
/// As for [`Simd`]; everything is as long as [`multiply`] asserts.
#[inline(always)]
unsafe fn multiply_path<S: LevelLanes>(product: &Product, factors: &mut [f32], start: &mut [f32], sums: &mut [f32]) {
    let layout = product.page.layout;
    // SAFETY: the caller's promise.
    unsafe {
        fold::<S>(product, factors, start);
        // Scales of entries multiply the sums of keys, so queries are factors as they are.
        let factors = match (layout.per_entry, layout.side) {
            (true, Side::Keys) => product.numbers,
            _ => factors,
        };
        match layout.format {
            Format::Int8 => multiply_bits::<S, 8, false>(product, factors, start, sums),
            Format::Kivi4 => multiply_bits::<S, 4, false>(product, factors, start, sums),
            Format::Kivi2 => multiply_bits::<S, 2, false>(product, factors, start, sums),
            Format::Turbo4 => multiply_bits::<S, 4, true>(product, factors, start, sums),
            Format::Turbo2 => multiply_bits::<S, 2, true>(product, factors, start, sums),
            Format::Bitmap(_) => {}
        }
    }
}

/// Factors of the codes [row][group][padded rows], or [row][padded rows] where groups share them: numbers times scales of rows, if there are any.
///
/// # Safety
/// As for [`multiply_path`]; LANES divides the padded rows, and scales and zeros have as many in each group.
#[inline(always)]
unsafe fn fold<S: Simd>(product: &Product, factors: &mut [f32], start: &mut [f32]) {
    let Page { layout, bytes, .. } = product.page;
    let (count, groups) = (layout.padded_rows, layout.groups);
    let (scales, zeros) = (
        bytes[layout.code_bytes..].as_ptr(),
        bytes[layout.zeros_at().min(bytes.len())..].as_ptr(),
    );
    let numbers = product.numbers.as_ptr();
    let to = factors.as_mut_ptr();
    start[..product.rows * groups].fill(0.0);
    // SAFETY: the caller's promise.
    unsafe {
        match (layout.per_entry, layout.side) {
            (true, Side::Keys) => {}
            (true, Side::Values) => {
                for row in 0..product.rows {
                    for at in (0..count).step_by(S::LANES) {
                        let scale = S::load_f16(scales.add(2 * at).cast());
                        let number = S::load(numbers.add(row * count + at));
                        S::store(to.add(row * count + at), S::mul(number, scale));
                    }
                }
            }
            _ => {
                for row in 0..product.rows {
                    for group in 0..groups {
                        let mut sums = S::splat(0.0);
                        for at in (0..count).step_by(S::LANES) {
                            let of_group = 2 * (group * count + at);
                            let scale = S::load_f16(scales.add(of_group).cast());
                            let zero = S::load_f16(zeros.add(of_group).cast());
                            let number = S::load(numbers.add(row * count + at));
                            S::store(to.add((row * groups + group) * count + at), S::mul(number, scale));
                            sums = S::fma(number, zero, sums);
                        }
                        start[row * groups + group] = total::<S>(sums);
                    }
                }
            }
        }
    }
}

/// # Safety
/// As for [`multiply_path`]; BITS are those of the format, and whether it has LEVELS.
#[inline(always)]
unsafe fn multiply_bits<S: LevelLanes, const BITS: u32, const LEVELS: bool>(
    product: &Product,
    factors: &[f32],
    start: &[f32],
    sums: &mut [f32],
) {
    // SAFETY: the caller's promise. Registers: rows × vectors of the groups, a vector of codes, what widens them.
    unsafe {
        match S::LANES {
            16 => match product.rows {
                1 => multiply_rows::<S, BITS, LEVELS, 1, 2>(product, factors, start, sums),
                2 => multiply_rows::<S, BITS, LEVELS, 2, 2>(product, factors, start, sums),
                3 => multiply_rows::<S, BITS, LEVELS, 3, 2>(product, factors, start, sums),
                _ => multiply_rows::<S, BITS, LEVELS, 4, 2>(product, factors, start, sums),
            },
            8 | 4 => match product.rows {
                1 => multiply_rows::<S, BITS, LEVELS, 1, 1>(product, factors, start, sums),
                2 => multiply_rows::<S, BITS, LEVELS, 2, 1>(product, factors, start, sums),
                _ => multiply_rows::<S, BITS, LEVELS, 3, 1>(product, factors, start, sums),
            },
            _ => multiply_rows::<S, BITS, LEVELS, 1, 1>(product, factors, start, sums),
        }
    }
}

/// R rows of queries; G groups at once, as their sums do not wait for each other.
///
/// # Safety
/// As for [`multiply_path`].
#[inline(always)]
unsafe fn multiply_rows<S: LevelLanes, const BITS: u32, const LEVELS: bool, const R: usize, const G: usize>(
    product: &Product,
    factors: &[f32],
    start: &[f32],
    sums: &mut [f32],
) {
    let layout = product.page.layout;
    let together = layout.groups / G * G;
    let chunks = layout.group_bytes / CHUNK;
    let ahead = Ahead::new(product.page.ahead, chunks * (together / G + layout.groups - together));
    // SAFETY: the caller's promise.
    unsafe {
        for group in (0..together).step_by(G) {
            multiply_groups::<S, BITS, LEVELS, R, G>(product, (factors, start), group, sums, &ahead);
        }
        if G > 1 {
            for group in together..layout.groups {
                multiply_groups::<S, BITS, LEVELS, R, 1>(product, (factors, start), group, sums, &ahead);
            }
        }
    }
}

/// Rows of a chunk that are worked on without a jump. Of two bits, words that begin two bytes on hold the next four rows: the last one reads two
/// bytes of what is behind the chunk, in the page, and does not look at them.
const UNROLLED: usize = 4;

/// G groups from `first` on.
///
/// # Safety
/// As for [`multiply_path`]; the groups are there.
#[inline(always)]
unsafe fn multiply_groups<S: LevelLanes, const BITS: u32, const LEVELS: bool, const R: usize, const G: usize>(
    product: &Product,
    (factors, start): (&[f32], &[f32]),
    first: usize,
    sums: &mut [f32],
    ahead: &Ahead,
) {
    let Page { layout, bytes, .. } = product.page;
    let (count, width) = (layout.padded_rows, layout.groups * GROUP);
    // Elements from one row of queries to the next, and from one group to the next.
    let (of_row, of_group) = match layout.per_entry {
        true => (count, 0),
        false => (layout.groups * count, count),
    };
    let levels = layout.levels.map_or([0.0; 16], |levels| levels.values);
    let per_chunk = 16 / BITS as usize;
    let half = 16 / S::LANES;
    // SAFETY: groups, chunks and lanes lie within the page, the factors and the sums.
    unsafe {
        let table = S::table(&levels);
        let codes = bytes.as_ptr().add(first * layout.group_bytes);
        let factors = factors.as_ptr().add(first * of_group);
        let out = sums.as_mut_ptr().add(first * GROUP);
        let mut totals = [[S::group(0.0); G]; R];
        for row in 0..R {
            for group in 0..G {
                let start = start[row * layout.groups + first + group];
                totals[row][group] = S::group(start);
                let Some(alpha) = product.alpha else { continue };
                let alpha = S::splat(alpha[row]);
                for (part, total) in totals[row][group].as_mut().iter_mut().enumerate() {
                    let before = S::load(out.add(row * width + group * GROUP + part * S::LANES));
                    *total = S::fma(before, alpha, *total);
                }
            }
        }
        for chunk in 0..count / per_chunk {
            ahead.ask::<S>();
            // A loop over more rows is not unrolled, and shifts by what it counts.
            for first in (0..per_chunk).step_by(UNROLLED) {
                let from = codes.add(chunk * CHUNK + if BITS == 2 { first / 2 } else { 0 });
                let factors = factors.add(chunk * per_chunk + first);
                for own in 0..per_chunk.min(UNROLLED) {
                    // Sums stay in registers where what picks them is known: loops over halves, groups, parts and rows are unrolled.
                    for side in 0..2 {
                        let step = 2 * own + side;
                        for group in 0..G {
                            let from = from.add(group * layout.group_bytes);
                            for part in 0..half {
                                let code = match BITS {
                                    8 => S::bytes(from.add(16 * step + part * S::LANES).cast()),
                                    _ if LEVELS => {
                                        S::levels::<BITS>(from.add(4 * part * S::LANES).cast(), BITS * step as u32, table)
                                    }
                                    _ => S::bits::<BITS>(from.add(4 * part * S::LANES).cast(), BITS * step as u32),
                                };
                                for row in 0..R {
                                    let factor = S::splat(*factors.add(row * of_row + group * of_group + own));
                                    let total = &mut totals[row][group].as_mut()[side * half + part];
                                    *total = S::fma(code, factor, *total);
                                }
                            }
                        }
                    }
                }
            }
        }
        let scaled = layout.per_entry && layout.side == Side::Keys;
        let scales = bytes.as_ptr().add(layout.code_bytes);
        for group in 0..G {
            for part in 0..2 * half {
                let at = group * GROUP + part * S::LANES;
                let scale = match scaled {
                    true => S::load_f16(scales.add(2 * (first * GROUP + at)).cast()),
                    false => S::splat(1.0),
                };
                for row in 0..R {
                    S::store(out.add(row * width + at), S::mul(totals[row][group].as_mut()[part], scale));
                }
            }
        }
    }
}
