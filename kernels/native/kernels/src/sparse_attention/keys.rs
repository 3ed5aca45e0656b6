//! Where keys and values come from: pages, f32 or f16.

use super::arithmetic::{pack_rows, Arithmetic};
use super::bias::TileBias;
use super::list::{List, Piece, Visit, TILE};
use super::tile::{Part, Tile, MOST_PARTS};
use crate::call::{checked_product, DType, TensorRef};
use crate::simd::Simd;
use crate::{ensure, KernelError};
use half::{bf16, f16};
use std::ops::Range;

/// Pieces that are asked for before they are copied.
const AHEAD: usize = 8;

/// Vectors of keys of a tile, of at least four lanes.
pub const MOST_BLOCKS: usize = TILE / 4;

/// Where the keys and the values of every LANES entries of a tile begin, which lie one behind the other.
#[derive(Clone, Copy)]
pub struct Blocks {
    pub keys: [*const u8; MOST_BLOCKS],
    pub values: [*const u8; MOST_BLOCKS],
}

impl Blocks {
    /// Those of a tile of f32.
    pub fn of_tile(keys: *const f32, values: *const f32, (dim, value_dim): (usize, usize), lanes: usize) -> Self {
        let block = |start: *const f32, dim: usize, index: usize| start.wrapping_add(index * lanes * dim).cast();
        Self {
            keys: std::array::from_fn(|index| block(keys, dim, index)),
            values: std::array::from_fn(|index| block(values, value_dim, index)),
        }
    }
}

/// K and V of one call.
pub struct KeySource<'a> {
    k: &'a [u8],
    v: &'a [u8],
    pub half: bool,
    bias: Option<&'a [f32]>,
    table: Option<&'a [i32]>,
    pages_per_batch: usize,
    page_size: usize,
    /// log2 of the page size, where there is one.
    page_shift: Option<u32>,
    kv_heads: usize,
    pub dim: usize,
    pub value_dim: usize,
}

impl<'a> KeySource<'a> {
    pub fn new(k: TensorRef<'a>, v: TensorRef<'a>, table: Option<&'a [i32]>, batch: usize) -> Result<Self, KernelError> {
        ensure!(
            k.dtype == v.dtype && matches!(k.dtype, DType::F32 | DType::F16),
            "attention: k and v are {:?} and {:?}",
            k.dtype,
            v.dtype
        );
        let size = k.dtype.size();
        ensure!(
            checked_product(k.shape)?.checked_mul(size) == Some(k.bytes.len()),
            "attention: k does not fit its shape"
        );
        ensure!(
            checked_product(v.shape)?.checked_mul(size) == Some(v.bytes.len()),
            "attention: v does not fit its shape"
        );
        if let Some(table) = table {
            let pages = k.shape[0];
            ensure!(
                table.iter().all(|&page| page >= 0 && (page as usize) < pages),
                "attention: the page table names a page beyond {pages}"
            );
        }
        ensure!(
            table.is_some() || k.shape[0] == batch || batch == 0,
            "attention: k has {} pages for a batch of {batch}",
            k.shape[0]
        );
        Ok(Self {
            k: k.bytes,
            v: v.bytes,
            half: k.dtype == DType::F16,
            bias: None,
            table,
            pages_per_batch: table.map_or(1, |table| table.len() / batch.max(1)),
            page_size: k.shape[2],
            page_shift: k.shape[2].is_power_of_two().then(|| k.shape[2].trailing_zeros()),
            kv_heads: k.shape[1],
            dim: k.shape[3],
            value_dim: v.shape[3],
        })
    }

    fn dtype(&self) -> DType {
        match self.half {
            true => DType::F16,
            false => DType::F32,
        }
    }

    /// The same with a bias for every row of k.
    pub fn with_bias(self, bias: Option<&'a [f32]>) -> Self {
        Self { bias, ..self }
    }

    /// What is added to the scores of the pieces of a tile, if something is.
    pub fn tile_bias(&self, at: (usize, usize), pieces: &[Piece]) -> Option<TileBias> {
        let bias = self.bias?;
        let positions = pieces.iter().flat_map(|piece| piece.positions());
        Some(TileBias::of(positions.map(|position| bias[self.row(at.0, at.1, position)])))
    }

    /// Most keys of a batch element.
    pub fn capacity(&self) -> usize {
        self.pages_per_batch * self.page_size
    }

    /// Index of the row of key `position` among all rows of k (and v).
    #[inline(always)]
    fn row(&self, batch: usize, head: usize, position: usize) -> usize {
        let (page, within) = match self.table {
            Some(table) => {
                let (page, within) = self.place(position);
                (table[batch * self.pages_per_batch + page] as usize, within)
            }
            None => (batch, position),
        };
        (page * self.kv_heads + head) * self.page_size + within
    }

    /// Page of the element and place in the page of a position.
    #[inline(always)]
    fn place(&self, position: usize) -> (usize, usize) {
        match self.page_shift {
            Some(shift) => (position >> shift, position & (self.page_size - 1)),
            None => (position / self.page_size, position % self.page_size),
        }
    }

    /// Keys from `position` on that lie one behind the other.
    #[inline(always)]
    fn run(&self, position: usize) -> usize {
        match self.table {
            Some(_) => self.page_size - self.place(position).1,
            None => self.page_size - position,
        }
    }

    /// The bytes of the keys and of the values from position `from` on, where `count` of them lie one behind the other.
    pub fn direct(&self, batch: usize, head: usize, from: usize, count: usize) -> Option<(&'a [u8], &'a [u8])> {
        if count > self.run(from) {
            return None;
        }
        let row = self.row(batch, head, from);
        let size = if self.half { 2 } else { 4 };
        let bytes = |all: &'a [u8], dim: usize| &all[row * dim * size..(row + count) * dim * size];
        Some((bytes(self.k, self.dim), bytes(self.v, self.value_dim)))
    }

    /// Where every `lanes` of the `count` entries of a tile lie, if each of them lies in one piece, with `lanes` readable keys.
    pub fn blocks(&self, at: (usize, usize), pieces: &[Piece], count: usize, lanes: usize) -> Option<Blocks> {
        let mut blocks = Blocks {
            keys: [std::ptr::null(); MOST_BLOCKS],
            values: [std::ptr::null(); MOST_BLOCKS],
        };
        let mut pieces = pieces.iter();
        let mut rest = 0..0;
        for (block, first) in (0..count).step_by(lanes).enumerate() {
            if rest.is_empty() {
                rest = pieces.next()?.positions();
            }
            // Neighbouring pieces may go on with each other's positions.
            let wanted = lanes.min(count - first);
            while rest.len() < wanted {
                let next = pieces.next()?.positions();
                if next.start != rest.end {
                    return None;
                }
                rest.end = next.end;
            }
            let (keys, values) = self.direct(at.0, at.1, rest.start, lanes)?;
            (blocks.keys[block], blocks.values[block]) = (keys.as_ptr(), values.as_ptr());
            rest.start += wanted;
        }
        Some(blocks)
    }

    /// [`direct`](Self::direct) of a tile, with `reach` readable keys.
    pub fn direct_tile(&self, at: (usize, usize), visit: &Visit, reach: usize) -> Option<(&'a [u8], &'a [u8])> {
        if !visit.contiguous() {
            return None;
        }
        self.direct(at.0, at.1, visit.first, reach)
    }

    /// The tile in words: f32 where it lies when it lies in one piece and as much as register blocks of `padding` keys may read is there,
    /// otherwise in the buffers.
    ///
    /// # Safety
    /// As for [`Arithmetic`]; `keys` has room for `padding` keys more than the tile has, `values` for as many values as it has.
    #[inline(always)]
    pub unsafe fn tile<A: Arithmetic>(
        &self,
        at: (usize, usize),
        visit: &Visit,
        list: &List,
        padding: usize,
        keys: &mut [f32],
        values: &mut [f32],
    ) -> Tile {
        let pieces = &list.pieces[visit.pieces.clone()];
        let empty = Part {
            keys: std::ptr::null(),
            values: std::ptr::null(),
            first: 0,
            count: 0,
        };
        let mut tile = Tile {
            parts: [empty; MOST_PARTS],
            used: 0,
            dim: self.dim,
            value_dim: self.value_dim,
        };
        if !self.half && !A::BF16 && self.parts(at, visit, pieces, padding, &mut tile) {
            return tile;
        }
        let direct = if A::BF16 && !self.half {
            self.direct_tile(at, visit, visit.count)
        } else {
            None
        };
        if direct.is_none() {
            // SAFETY: the caller's promise.
            unsafe { self.load_tile::<A::S>(at, pieces, keys, values) };
        }
        let (keys, values) = (keys.as_mut_ptr(), values.as_mut_ptr());
        if A::BF16 {
            let (k, v) = match direct {
                Some((k, v)) => (k.as_ptr().cast(), v.as_ptr().cast()),
                None => (keys.cast_const(), values.cast_const()),
            };
            tile.dim = self.dim.div_ceil(A::PACKED);
            // SAFETY: `count` rows each; words lie no further than the numbers they are made of.
            unsafe {
                for key in 0..visit.count {
                    A::pack_row(k.add(key * self.dim), self.dim, keys.add(key * tile.dim));
                }
                pack_rows::<A>(v, visit.count, self.value_dim, values);
            }
        }
        tile.parts[0] = Part {
            keys,
            values,
            first: 0,
            count: visit.count,
        };
        tile.used = 1;
        tile
    }

    /// The parts of a tile of f32 where they lie; false when there are too many, or too little is readable behind one.
    fn parts(&self, at: (usize, usize), visit: &Visit, pieces: &[Piece], padding: usize, tile: &mut Tile) -> bool {
        let whole = [Piece {
            start: visit.first as u32,
            count: visit.count as u32,
        }];
        let pieces = if visit.contiguous() { &whole } else { pieces };
        let mut first = 0;
        for piece in pieces {
            let count = piece.count as usize;
            let reach = count.next_multiple_of(padding);
            let (Some((k, v)), true) = (self.direct(at.0, at.1, piece.start as usize, reach), tile.used < MOST_PARTS) else {
                return false;
            };
            // Arguments are aligned to their elements.
            tile.parts[tile.used] = Part {
                keys: k.as_ptr().cast(),
                values: v.as_ptr().cast(),
                first,
                count,
            };
            tile.used += 1;
            first += count;
        }
        true
    }

    /// Copies (and widens) the keys and values of the pieces into row-major tiles.
    ///
    /// # Safety
    /// As for [`Simd`].
    #[inline(always)]
    pub unsafe fn load_tile<S: Simd>(&self, at: (usize, usize), pieces: &[Piece], keys: &mut [f32], values: &mut [f32]) {
        let mut done = 0;
        for (index, piece) in pieces.iter().enumerate() {
            if let Some(next) = pieces.get(index + AHEAD) {
                self.ask::<S>(at, next.start as usize);
            }
            // Not through `runs`: intrinsics in a closure are left as calls.
            let Range { mut start, end } = piece.positions();
            while start < end {
                let (row, run) = (self.row(at.0, at.1, start), self.run(start).min(end - start));
                // SAFETY: the caller's promise.
                unsafe {
                    let out = &mut keys[done * self.dim..(done + run) * self.dim];
                    widen::<S>(self.dtype(), self.k, row * self.dim, out);
                    let out = &mut values[done * self.value_dim..(done + run) * self.value_dim];
                    widen::<S>(self.dtype(), self.v, row * self.value_dim, out);
                }
                done += run;
                start += run;
            }
        }
    }

    /// First row and length of each run of positions that lie one behind the other: those of a page.
    #[inline(always)]
    fn runs(&self, at: (usize, usize), positions: Range<usize>, mut take: impl FnMut(usize, usize)) {
        let mut from = positions.start;
        while from < positions.end {
            let run = self.run(from).min(positions.end - from);
            take(self.row(at.0, at.1, from), run);
            from += run;
        }
    }

    /// Where the bytes of a tile's keys and values lie.
    pub fn spans(&self, at: (usize, usize), pieces: &[Piece], keys: &mut Vec<&'a [u8]>, values: &mut Vec<&'a [u8]>) {
        let size = if self.half { 2 } else { 4 };
        for piece in pieces {
            self.runs(at, piece.positions(), |row, run| {
                keys.push(&self.k[row * self.dim * size..(row + run) * self.dim * size]);
                values.push(&self.v[row * self.value_dim * size..(row + run) * self.value_dim * size]);
            });
        }
    }

    /// Asks for the key and the value at a position.
    #[inline(always)]
    fn ask<S: Simd>(&self, at: (usize, usize), position: usize) {
        let row = self.row(at.0, at.1, position);
        let size = if self.half { 2 } else { 4 };
        for (all, dim) in [(self.k, self.dim), (self.v, self.value_dim)] {
            for line in (0..dim * size).step_by(64) {
                S::prefetch(all.as_ptr().wrapping_add(row * dim * size + line));
            }
        }
    }
}

/// # Safety
/// As for [`Simd`].
#[inline(always)]
pub(super) unsafe fn widen<S: Simd>(dtype: DType, bytes: &[u8], element: usize, out: &mut [f32]) {
    let size = dtype.size();
    let source = &bytes[element * size..(element + out.len()) * size];
    let whole = out.len() / S::LANES * S::LANES;
    let mut at = 0;
    while at < whole {
        // SAFETY: LANES elements from `at` lie within both.
        unsafe {
            let from = source.as_ptr().add(size * at);
            let vector = match dtype {
                DType::F16 => S::load_f16(from.cast()),
                DType::BF16 => S::load_bf16(from.cast()),
                _ => S::load(from.cast()),
            };
            S::store(out.as_mut_ptr().add(at), vector);
        }
        at += S::LANES;
    }
    for (value, bytes) in out[whole..].iter_mut().zip(source[size * whole..].chunks_exact(size)) {
        *value = match *bytes {
            [a, b] if dtype == DType::BF16 => bf16::from_le_bytes([a, b]).to_f32(),
            [a, b] => f16::from_le_bytes([a, b]).to_f32(),
            [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
            _ => 0.0,
        };
    }
}
