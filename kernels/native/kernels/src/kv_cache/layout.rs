//! How a page of keys or values of one head is laid out in codes. The same as packages/kv-cache/src/codecs/layout.ts, which says why.
//!
//! A matrix of rows × columns: of keys, channels × entries; of values, entries × channels. Columns in groups of 32, rows padded to 16:
//! codes [group][chunk of 16/bits rows][64 bytes], then half-precision scales and, of kivi, zeros. Pruned pages: `pruned.rs`.

use super::levels::Levels;
use super::pruned::Pruned;
use crate::{ensure, KernelError};
use half::f16;

/// Columns of a group.
pub const GROUP: usize = 32;
/// Bytes of a chunk: the codes of 16/bits rows of a group.
pub const CHUNK: usize = 64;
/// What rows are padded to.
const ROW_STEP: usize = 16;

/// In the order of the JavaScript list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Signed codes, a scale per entry.
    Int8,
    /// Codes from 0, a scale and a zero per row and group.
    Kivi4,
    Kivi2,
    /// Levels of the normal distribution, a scale per entry.
    Turbo4,
    Turbo2,
    /// The numbers that are left of entries when so many tenths are dropped.
    Bitmap(u8),
}

/// Formats before those that drop 0 to 9 tenths.
const CODES: [Format; 5] = [Format::Int8, Format::Kivi4, Format::Kivi2, Format::Turbo4, Format::Turbo2];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Keys,
    Values,
}

impl Format {
    pub fn from_index(index: usize) -> Result<Self, KernelError> {
        let format = match index.checked_sub(CODES.len()) {
            Some(tenths) => u8::try_from(tenths).ok().filter(|&tenths| tenths < 10).map(Format::Bitmap),
            None => Some(CODES[index]),
        };
        format.ok_or_else(|| KernelError(format!("there is no format {index} of coded pages")))
    }

    /// Of a number as it is stored.
    pub fn bits(self) -> usize {
        match self {
            Format::Int8 => 8,
            Format::Kivi4 | Format::Turbo4 => 4,
            Format::Kivi2 | Format::Turbo2 => 2,
            Format::Bitmap(_) => 16,
        }
    }

    /// The largest code of a format of codes.
    pub fn levels(self) -> f32 {
        match self {
            Format::Int8 => 127.0,
            Format::Kivi4 | Format::Turbo4 => 15.0,
            Format::Kivi2 | Format::Turbo2 => 3.0,
            Format::Bitmap(_) => 0.0,
        }
    }
}

impl Side {
    pub fn from_index(index: usize) -> Result<Self, KernelError> {
        let sides = [Side::Keys, Side::Values];
        sides
            .get(index)
            .copied()
            .ok_or_else(|| KernelError(format!("there is no side {index} of a page")))
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub format: Format,
    pub side: Side,
    pub page_size: usize,
    pub dim: usize,
    pub rows: usize,
    pub columns: usize,
    pub padded_rows: usize,
    pub groups: usize,
    /// Bytes of the codes of a group.
    pub group_bytes: usize,
    /// Bytes of all codes: where the scales begin.
    pub code_bytes: usize,
    /// Whether an entry has one scale and no zero.
    pub per_entry: bool,
    /// What codes are numbers of, where they are not steps.
    pub levels: Option<Levels>,
    /// Scales, and zeros where there are some.
    pub scales: usize,
    /// Bytes of the page of a head.
    pub bytes: usize,
    /// Of pruned pages, which have neither codes nor scales.
    pub pruned: Option<Pruned>,
}

impl Layout {
    pub fn new(format: Format, side: Side, page_size: usize, dim: usize) -> Result<Self, KernelError> {
        ensure!(
            page_size > 0 && page_size.is_multiple_of(GROUP) && page_size <= 4096,
            "coded pages have {page_size} entries, they take a multiple of {GROUP} up to 4096"
        );
        ensure!(dim > 0 && dim <= 1024, "head dims of coded pages are 1 to 1024, not {dim}");
        let (rows, columns) = match side {
            Side::Keys => (dim, page_size),
            Side::Values => (page_size, dim),
        };
        let levels = Levels::of(format);
        ensure!(
            levels.is_none() || dim.is_power_of_two(),
            "{format:?} rotates heads whose dim is a power of two, not {dim}"
        );
        let per_entry = format == Format::Int8 || levels.is_some();
        let padded_rows = rows.next_multiple_of(ROW_STEP);
        let groups = columns.div_ceil(GROUP);
        let group_bytes = padded_rows * GROUP * format.bits() / 8;
        let code_bytes = groups * group_bytes;
        let pruned = match format {
            Format::Bitmap(tenths) => Some(Pruned::new(tenths.into(), side, (page_size, dim), (padded_rows, groups))),
            _ => None,
        };
        let (scales, kinds) = match per_entry {
            true => (page_size, 1),
            false => (groups * padded_rows, 2),
        };
        Ok(Self {
            format,
            side,
            page_size,
            dim,
            rows,
            columns,
            padded_rows,
            groups,
            group_bytes,
            code_bytes,
            per_entry,
            levels,
            scales,
            bytes: pruned.map_or(code_bytes + kinds * scales * 2, |pruned| pruned.bytes),
            pruned,
        })
    }

    /// Where the zeros begin.
    pub fn zeros_at(&self) -> usize {
        self.code_bytes + 2 * self.scales
    }

    /// Byte of a code and the bit in it that the code begins at.
    pub fn place(&self, row: usize, column: usize) -> (usize, usize) {
        let bits = self.format.bits();
        let per_chunk = 16 / bits;
        let (group, column) = (column / GROUP, column % GROUP);
        let chunk = group * self.group_bytes + row / per_chunk * CHUNK;
        if bits == 8 {
            return (chunk + row % per_chunk * GROUP + column, 0);
        }
        // Words hold a column of every row of the chunk, and the one 16 behind it.
        let bit = bits * (2 * (row % per_chunk) + column / 16);
        (chunk + 4 * (column % 16) + bit / 8, bit % 8)
    }

    /// Which of the scales, and zeros, belongs to a code.
    pub fn scale_of(&self, row: usize, column: usize) -> usize {
        match (self.per_entry, self.side) {
            (true, Side::Keys) => column,
            (true, Side::Values) => row,
            _ => column / GROUP * self.padded_rows + row,
        }
    }

    /// Row and column of a channel of an entry.
    pub fn cell(&self, entry: usize, channel: usize) -> (usize, usize) {
        match self.side {
            Side::Keys => (channel, entry),
            Side::Values => (entry, channel),
        }
    }
}

/// The half-precision number at byte `at`.
pub fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Coded pages [pages, heads, bytes] of one side.
#[derive(Clone, Copy)]
pub struct Pages<'a> {
    pub layout: Layout,
    bytes: &'a [u8],
    pub count: usize,
    pub heads: usize,
}

impl<'a> Pages<'a> {
    pub fn new(layout: Layout, bytes: &'a [u8], shape: &[usize]) -> Result<Self, KernelError> {
        ensure!(
            shape.len() == 3 && shape[2] == layout.bytes,
            "coded pages are {shape:?}, {:?} in {:?} take [pages, heads, {}]",
            layout.side,
            layout.format,
            layout.bytes
        );
        Ok(Self {
            layout,
            bytes,
            count: shape[0],
            heads: shape[1],
        })
    }

    /// The page of a head; both must be there.
    pub fn page(&self, page: usize, head: usize) -> &'a [u8] {
        let at = (page * self.heads + head) * self.layout.bytes;
        &self.bytes[at..at + self.layout.bytes]
    }
}
