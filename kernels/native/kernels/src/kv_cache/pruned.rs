//! Pages of the numbers that are left of entries, and of bits that say which. The same as packages/kv-cache/src/codecs/bitmap-layout.ts, which says why:
//! numbers f16, bits u32 per group of a row, and of keys offsets u16. What a vector that begins at the last number reads beyond it are bits: a page
//! has at least 16 words of them.

use super::layout::{half_at, Layout, Side, GROUP};
use half::f16;

#[derive(Debug, Clone, Copy)]
pub struct Pruned {
    /// Numbers of an entry that are kept.
    pub kept: usize,
    pub bits_at: usize,
    pub offsets_at: usize,
    pub bytes: usize,
}

impl Pruned {
    pub fn new(tenths: usize, side: Side, (page_size, dim): (usize, usize), (padded_rows, groups): (usize, usize)) -> Self {
        let kept = dim - dim * tenths / 10;
        let bits_at = 2 * kept * page_size;
        let (rows, offsets) = match side {
            Side::Keys => (padded_rows, 2 * groups * padded_rows),
            Side::Values => (page_size, 0),
        };
        let offsets_at = bits_at + 4 * groups * rows;
        Self {
            kept,
            bits_at,
            offsets_at,
            bytes: offsets_at + offsets,
        }
    }

    /// Byte of the bits of a group of a row.
    pub fn bits_of(&self, layout: &Layout, row: usize, group: usize) -> usize {
        self.bits_at
            + 4 * match layout.side {
                Side::Keys => group * layout.padded_rows + row,
                Side::Values => row * layout.groups + group,
            }
    }

    /// The first number of a group of a row.
    pub fn first_of(&self, layout: &Layout, page: &[u8], row: usize, group: usize) -> usize {
        match layout.side {
            Side::Keys => {
                let at = self.offsets_at + 2 * (group * layout.padded_rows + row);
                group * GROUP * self.kept + usize::from(u16::from_le_bytes([page[at], page[at + 1]]))
            }
            Side::Values => self.first_of_values(layout, page, row, group),
        }
    }

    /// Of values numbers are counted: groups of a row lie one behind the other.
    #[inline(always)]
    pub fn first_of_values(&self, layout: &Layout, page: &[u8], row: usize, group: usize) -> usize {
        let before = (0..group).map(|other| word_at(page, self.bits_of(layout, row, other)).count_ones() as usize);
        row * self.kept + before.sum::<usize>()
    }
}

fn word_at(page: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]])
}

/// Rows [P, D] of one head → its page, which is 0.
pub fn encode_page(layout: &Layout, pruned: &Pruned, rows: &[f32], page: &mut [u8]) {
    let mut order: Vec<u64> = Vec::with_capacity(layout.dim);
    for (entry, row) in rows.chunks_exact(layout.dim).enumerate() {
        // Largest magnitudes first, of equal ones lower channels: bits of positive numbers are ordered as the numbers are.
        order.clear();
        let rank = |(channel, value): (usize, &f32)| u64::from(!value.abs().to_bits()) << 32 | channel as u64;
        order.extend(row.iter().enumerate().map(rank));
        if pruned.kept < layout.dim {
            order.select_nth_unstable(pruned.kept);
        }
        for &rank in &order[..pruned.kept] {
            let (row, column) = layout.cell(entry, rank as u32 as usize);
            let bits = column % GROUP;
            page[pruned.bits_of(layout, row, column / GROUP) + bits / 8] |= 1 << (bits % 8);
        }
    }
    if layout.side == Side::Keys {
        for group in 0..layout.groups {
            let mut before = 0u16;
            for row in 0..layout.padded_rows {
                let at = pruned.offsets_at + 2 * (group * layout.padded_rows + row);
                page[at..at + 2].copy_from_slice(&before.to_le_bytes());
                before += word_at(page, pruned.bits_of(layout, row, group)).count_ones() as u16;
            }
        }
    }
    each(layout, pruned, page, |page, at, (entry, channel)| {
        if let Some(at) = at {
            let number = f16::from_f32(rows[entry * layout.dim + channel]);
            page[at..at + 2].copy_from_slice(&number.to_le_bytes());
        }
    });
}

pub fn decode_page(layout: &Layout, pruned: &Pruned, page: &[u8], out: &mut [f32]) {
    each(layout, pruned, page, |page, at, (entry, channel)| {
        out[entry * layout.dim + channel] = at.map_or(0.0, |at| half_at(page, at));
    });
}

/// Every number of a page with its byte, if it is kept.
fn each<P: AsRef<[u8]>>(
    layout: &Layout,
    pruned: &Pruned,
    mut page: P,
    mut visit: impl FnMut(&mut P, Option<usize>, (usize, usize)),
) {
    for row in 0..layout.rows {
        for group in 0..layout.groups {
            let bits = word_at(page.as_ref(), pruned.bits_of(layout, row, group));
            // Bits that no encoder wrote may count more numbers than there are.
            let mut at = 2 * pruned.first_of(layout, page.as_ref(), row, group);
            for own in 0..GROUP.min(layout.columns - group * GROUP) {
                let column = group * GROUP + own;
                let cell = match layout.side {
                    Side::Keys => (column, row),
                    Side::Values => (row, column),
                };
                let kept = bits >> own & 1 == 1 && at + 2 <= layout.bytes;
                visit(&mut page, kept.then_some(at), cell);
                at += 2 * usize::from(kept);
            }
        }
    }
}
