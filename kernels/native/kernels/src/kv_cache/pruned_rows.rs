//! Rows of factors times pruned numbers: numbers of a group of a row are spread to the columns that their bits name, and summed as codes are.
//!
//! Per 32 columns of three rows of queries on AVX-512: 2 loads that widen, 2 expansions, 6 products. Products with what was dropped are done, and are 0:
//! the gain is in what is read, 2 · kept + D/8 (+ D/16) bytes of an entry and side. Measured 1.2 to 1.3 × f16, at half and at 0.7 dropped alike: arithmetic is the bound.

use super::coded_rows::Product;
use super::expand_lanes::ExpandLanes;
use super::layout::{Side, GROUP};
use super::pruned::Pruned;
use crate::simd_dispatch;
use crate::sparse_attention::ahead::Ahead;
use crate::Cpu;

/// sums[row][column] = Σ number · decoded number; everything is as long as `coded_rows::multiply` asserts.
pub fn multiply(cpu: Cpu, product: &Product, pruned: &Pruned, sums: &mut [f32]) {
    // Bits that no encoder wrote may count more numbers than there are: behind this one none is read.
    let most = product.page.layout.bytes / 2 - GROUP;
    simd_dispatch!(cpu, multiply_path(product: &Product, pruned: &Pruned, sums: &mut [f32], most: usize));
}

/// # Safety
/// As for [`ExpandLanes`]; lengths as in [`multiply`].
#[inline(always)]
unsafe fn multiply_path<S: ExpandLanes>(product: &Product, pruned: &Pruned, sums: &mut [f32], most: usize) {
    // SAFETY: the caller's promise. Registers: rows × vectors of the groups, and a vector of numbers.
    unsafe {
        match S::LANES {
            16 => match product.rows {
                1 => multiply_rows::<S, 1, 2>(product, pruned, sums, most),
                2 => multiply_rows::<S, 2, 2>(product, pruned, sums, most),
                3 => multiply_rows::<S, 3, 2>(product, pruned, sums, most),
                _ => multiply_rows::<S, 4, 2>(product, pruned, sums, most),
            },
            8 | 4 => match product.rows {
                1 => multiply_rows::<S, 1, 1>(product, pruned, sums, most),
                2 => multiply_rows::<S, 2, 1>(product, pruned, sums, most),
                _ => multiply_rows::<S, 3, 1>(product, pruned, sums, most),
            },
            _ => multiply_rows::<S, 1, 1>(product, pruned, sums, most),
        }
    }
}

/// # Safety
/// As for [`multiply_path`].
#[inline(always)]
unsafe fn multiply_rows<S: ExpandLanes, const R: usize, const G: usize>(
    product: &Product,
    pruned: &Pruned,
    sums: &mut [f32],
    most: usize,
) {
    let layout = product.page.layout;
    let together = layout.groups / G * G;
    let ahead = Ahead::new(product.page.ahead, layout.rows * layout.groups.div_ceil(G));
    // SAFETY: the caller's promise.
    unsafe {
        for group in (0..together).step_by(G) {
            match layout.side {
                Side::Keys => multiply_groups::<S, R, G, true>(product, pruned, group, sums, most, &ahead),
                Side::Values => multiply_groups::<S, R, G, false>(product, pruned, group, sums, most, &ahead),
            }
        }
        if together < layout.groups {
            match layout.side {
                Side::Keys => multiply_groups::<S, R, 1, true>(product, pruned, together, sums, most, &ahead),
                Side::Values => multiply_groups::<S, R, 1, false>(product, pruned, together, sums, most, &ahead),
            }
        }
    }
}

/// G groups from `first` on.
///
/// # Safety
/// As for [`multiply_path`]; the groups are there.
#[inline(always)]
unsafe fn multiply_groups<S: ExpandLanes, const R: usize, const G: usize, const KEYS: bool>(
    product: &Product,
    pruned: &Pruned,
    first: usize,
    sums: &mut [f32],
    most: usize,
    ahead: &Ahead,
) {
    let (layout, bytes) = (product.page.layout, product.page.bytes);
    let (count, width) = (layout.padded_rows, layout.groups * GROUP);
    let half = 16 / S::LANES;
    // SAFETY: rows, groups and lanes lie within the page, the factors and the sums; a group's numbers begin at `most` at most, and GROUP are there from it on.
    unsafe {
        let mut totals = [[S::group(0.0); G]; R];
        let out = sums.as_mut_ptr().add(first * GROUP);
        if let Some(alpha) = product.alpha {
            for row in 0..R {
                for group in 0..G {
                    for (part, total) in totals[row][group].as_mut().iter_mut().enumerate() {
                        let before = S::load(out.add(row * width + group * GROUP + part * S::LANES));
                        *total = S::mul(before, S::splat(alpha[row]));
                    }
                }
            }
        }
        let numbers = bytes.as_ptr().cast::<u16>();
        // Bytes from the bits of a row to those of the next, and from a group to the next.
        let (next_row, next_group) = if KEYS { (4, 4 * count) } else { (4 * layout.groups, 4) };
        let all_bits = bytes.as_ptr().add(pruned.bits_at + first * next_group);
        let offsets = bytes.as_ptr().add(pruned.offsets_at + 2 * first * count);
        for of in 0..layout.rows {
            ahead.ask::<S>();
            // Values of a row lie one group behind the other.
            let mut start = if KEYS {
                0
            } else {
                pruned.first_of_values(layout, bytes, of, first)
            };
            for group in 0..G {
                let bits = all_bits
                    .add(of * next_row + group * next_group)
                    .cast::<u32>()
                    .read_unaligned();
                if KEYS {
                    let offset = offsets.add(2 * (group * count + of)).cast::<u16>().read_unaligned();
                    start = (first + group) * GROUP * pruned.kept + usize::from(offset);
                }
                let mut at = numbers.add(start.min(most));
                start += bits.count_ones() as usize;
                for part in 0..2 * half {
                    let own = (bits >> (part * S::LANES)) & (u32::MAX >> (32 - S::LANES));
                    let spread = S::expand(at, own);
                    at = at.add(own.count_ones() as usize);
                    for row in 0..R {
                        let factor = S::splat(*product.numbers.as_ptr().add(row * count + of));
                        let total = &mut totals[row][group].as_mut()[part];
                        *total = S::fma(spread, factor, *total);
                    }
                }
            }
        }
        for row in 0..R {
            for group in 0..G {
                for (part, total) in totals[row][group].as_mut().iter().enumerate() {
                    S::store(out.add(row * width + group * GROUP + part * S::LANES), *total);
                }
            }
        }
    }
}
