//! Where keys and values come from (pages, f32 or f16), and which of them a block of queries sees.

use super::arithmetic::{pack_rows, Arithmetic};
use super::tile::Tile;
use crate::call::{checked_product, DType, TensorRef};
use crate::simd::Simd;
use crate::{ensure, KernelError};
use half::f16;

/// Keys per tile: tiles start at multiples of this position, so that every row sums its keys in the same groups.
pub const TILE: usize = 64;
/// Keys per segment, a multiple of [`TILE`]: each is summed on its own and then merged, by one thread or by several.
pub const SEGMENT: usize = 256;

/// K and V of one call.
pub struct KeySource<'a> {
    k: &'a [u8],
    v: &'a [u8],
    pub half: bool,
    table: Option<&'a [i32]>,
    pages_per_batch: usize,
    pub page_size: usize,
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
        Ok(Self {
            k: k.bytes,
            v: v.bytes,
            half: k.dtype == DType::F16,
            table,
            pages_per_batch: table.map_or(1, |table| table.len() / batch.max(1)),
            page_size: k.shape[2],
            kv_heads: k.shape[1],
            dim: k.shape[3],
            value_dim: v.shape[3],
        })
    }

    /// Index of the row of key `position` among all rows of k (and v).
    fn row(&self, batch: usize, head: usize, position: usize) -> usize {
        let page = match self.table {
            Some(table) => table[batch * self.pages_per_batch + position / self.page_size] as usize,
            None => batch,
        };
        let within = if self.table.is_some() {
            position % self.page_size
        } else {
            position
        };
        (page * self.kv_heads + head) * self.page_size + within
    }

    /// The bytes of the keys and of the values from position `from` on, where `count` of them lie one behind the other.
    pub fn direct(&self, batch: usize, head: usize, from: usize, count: usize) -> Option<(&'a [u8], &'a [u8])> {
        let within = if self.table.is_some() { from % self.page_size } else { from };
        if within + count > self.page_size {
            return None;
        }
        let row = self.row(batch, head, from);
        let size = if self.half { 2 } else { 4 };
        let bytes = |all: &'a [u8], dim: usize| &all[row * dim * size..(row + count) * dim * size];
        Some((bytes(self.k, self.dim), bytes(self.v, self.value_dim)))
    }

    /// The tile of positions `from … from + count` in words: f32 where it lies when it lies in one piece and as much as register blocks of
    /// `padding` keys may read is there, otherwise in the buffers.
    ///
    /// # Safety
    /// As for [`Arithmetic`]; `keys` has room for `count + padding` keys, `values` for `count` values.
    #[inline(always)]
    pub unsafe fn tile<A: Arithmetic>(
        &self,
        (batch, head): (usize, usize),
        from: usize,
        count: usize,
        padding: usize,
        keys: &mut [f32],
        values: &mut [f32],
    ) -> Tile {
        let reach = if A::BF16 { count } else { count.next_multiple_of(padding) };
        let direct = self.direct(batch, head, from, reach).filter(|_| !self.half);
        if direct.is_none() {
            // SAFETY: the caller's promise.
            unsafe { self.load_tile::<A::S>(batch, head, from, count, keys, values) };
        }
        let (keys, values) = (keys.as_mut_ptr(), values.as_mut_ptr());
        // Arguments are aligned to their elements.
        let (k, v) = match direct {
            Some((k, v)) => (k.as_ptr().cast(), v.as_ptr().cast()),
            None => (keys.cast_const(), values.cast_const()),
        };
        let mut tile = Tile {
            keys: k,
            values: v,
            count,
            dim: self.dim,
            value_dim: self.value_dim,
        };
        if A::BF16 {
            tile.dim = self.dim.div_ceil(A::PACKED);
            // SAFETY: `count` rows each; words lie no further than the numbers they are made of.
            unsafe {
                for key in 0..count {
                    A::pack_row(k.add(key * self.dim), self.dim, keys.add(key * tile.dim));
                }
                pack_rows::<A>(v, count, self.value_dim, values);
            }
            (tile.keys, tile.values) = (keys, values);
        }
        tile
    }

    /// Copies (and widens) the keys and values of positions `from … from + count` into row-major tiles.
    ///
    /// # Safety
    /// As for [`Simd`].
    #[inline(always)]
    pub unsafe fn load_tile<S: Simd>(
        &self,
        batch: usize,
        head: usize,
        from: usize,
        count: usize,
        keys: &mut [f32],
        values: &mut [f32],
    ) {
        let mut done = 0;
        while done < count {
            // Positions that follow each other in a page do so in memory.
            let run = match self.table {
                Some(_) => (self.page_size - (from + done) % self.page_size).min(count - done),
                None => count - done,
            };
            let row = self.row(batch, head, from + done);
            // SAFETY: the caller's promise.
            unsafe {
                let out = &mut keys[done * self.dim..(done + run) * self.dim];
                widen::<S>(self.half, self.k, row * self.dim, out);
                let out = &mut values[done * self.value_dim..(done + run) * self.value_dim];
                widen::<S>(self.half, self.v, row * self.value_dim, out);
            }
            done += run;
        }
    }
}

/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn widen<S: Simd>(half: bool, bytes: &[u8], element: usize, out: &mut [f32]) {
    if !half {
        let source = &bytes[element * 4..(element + out.len()) * 4];
        // SAFETY: the source has four bytes per element of `out`, and they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(source.as_ptr(), out.as_mut_ptr().cast(), source.len()) };
        return;
    }
    let source = &bytes[element * 2..(element + out.len()) * 2];
    let whole = out.len() / S::LANES * S::LANES;
    let mut at = 0;
    while at < whole {
        // SAFETY: LANES elements from `at` lie within both.
        unsafe { S::store(out.as_mut_ptr().add(at), S::load_f16(source.as_ptr().add(2 * at).cast())) };
        at += S::LANES;
    }
    for (value, b) in out[whole..].iter_mut().zip(source[2 * whole..].chunks_exact(2)) {
        *value = f16::from_le_bytes([b[0], b[1]]).to_f32();
    }
}

/// A run of keys; `tested` keys are checked against causality and window one by one.
#[derive(Clone, Copy, Debug)]
pub struct KeyRange {
    pub start: usize,
    pub end: usize,
    pub tested: bool,
}

/// The keys that queries see.
pub enum Ranges<'a> {
    Dense { causal: bool, window: usize },
    Plan(Plan<'a>),
}

pub struct Plan<'a> {
    pool: &'a [i32],
    mask_heads: usize,
    rows_per_head: usize,
    block_q: usize,
    pub causal: bool,
    pub window: usize,
    head_map: usize,
    range_begin: usize,
    range_count: usize,
    ranges: usize,
    column_begin: usize,
    column_count: usize,
    columns: usize,
}

/// Words of the header of a packed plan; see docs/design/sparse-attention.md.
const HEADER: usize = 32;

impl<'a> Ranges<'a> {
    /// Reads a packed plan: every offset it uses is checked here. Returns the key length of each batch element too.
    pub fn from_plan(pool: &'a [i32], batch: usize, heads: usize, length_q: usize) -> Result<(Self, Vec<usize>), KernelError> {
        ensure!(
            pool.len() >= HEADER && pool[0] == 2,
            "planned-attention: the plan has no header of version 2"
        );
        let word = |index: usize| {
            usize::try_from(pool[index]).map_err(|_| KernelError(format!("planned-attention: plan word {index} is negative")))
        };
        let (plan_batch, mask_heads, rows_per_head, block_q) = (word(1)?, word(2)?, word(3)?, word(4)?);
        ensure!(
            plan_batch == batch,
            "planned-attention: the plan is for a batch of {plan_batch}, q has {batch}"
        );
        ensure!(
            block_q > 0 && (batch == 0 || rows_per_head >= length_q.div_ceil(block_q)),
            "planned-attention: the plan has too few rows for {length_q} queries"
        );
        ensure!(mask_heads > 0, "planned-attention: the plan has no mask heads");
        ensure!(
            pool[5] & !1 == 0,
            "planned-attention: the plan has flags {:#x}, only 1 is known",
            pool[5]
        );
        ensure!(
            pool[19..26].iter().all(|&offset| offset == 0),
            "planned-attention: the plan has bits, positions, segments or a key-value map"
        );
        ensure!(
            word(29)? == heads,
            "planned-attention: the plan is for {} heads, q has {heads}",
            pool[29]
        );
        let rows = batch * mask_heads * rows_per_head;
        let section = |index: usize, length: usize| -> Result<usize, KernelError> {
            let at = word(index)?;
            ensure!(
                at.checked_add(length).is_some_and(|end| end <= pool.len()),
                "planned-attention: plan section {index} is cut off"
            );
            Ok(at)
        };
        let plan = Plan {
            pool,
            mask_heads,
            rows_per_head,
            block_q,
            causal: pool[5] != 0,
            window: word(6)?,
            head_map: section(8, heads)?,
            range_begin: section(12, rows)?,
            range_count: section(13, rows)?,
            ranges: section(14, 0)?,
            column_begin: section(15, rows)?,
            column_count: section(16, rows)?,
            columns: section(17, 0)?,
        };
        let at_lengths = section(11, batch)?;
        let at_lengths_q = section(10, batch)?;
        for index in 0..batch {
            ensure!(
                pool[at_lengths_q + index] == length_q as i32,
                "planned-attention: the plan is for {} queries, q has {length_q}",
                pool[at_lengths_q + index]
            );
        }
        let lengths = (0..batch)
            .map(|index| {
                usize::try_from(pool[at_lengths + index]).map_err(|_| KernelError("planned-attention: negative length".into()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        for head in 0..heads {
            let mask = pool[plan.head_map + head];
            ensure!(
                mask >= 0 && (mask as usize) < mask_heads,
                "planned-attention: head {head} maps to mask head {mask} of {mask_heads}"
            );
        }
        for row in 0..rows {
            let length = lengths[row / (mask_heads * rows_per_head)];
            let (begin, count) = (pool[plan.range_begin + row], pool[plan.range_count + row]);
            ensure!(begin >= 0 && count >= 0, "planned-attention: row {row} has negative ranges");
            let mut last = 0;
            for range in begin as usize..begin as usize + count as usize {
                let at = plan.ranges + 3 * range;
                ensure!(at + 3 <= pool.len(), "planned-attention: range {range} is cut off");
                let (start, end, flag) = (pool[at], pool[at + 1], pool[at + 2]);
                ensure!(
                    start >= last && end >= start && end as usize <= length && (flag == 0 || flag == 1),
                    "planned-attention: range {start} … {end} (flag {flag}) of row {row} is not ascending within {length} keys"
                );
                last = end;
            }
            let (begin, count) = (pool[plan.column_begin + row], pool[plan.column_count + row]);
            ensure!(begin >= 0 && count >= 0, "planned-attention: row {row} has negative columns");
            let at = plan.columns + begin as usize;
            ensure!(
                at + count as usize <= pool.len(),
                "planned-attention: columns of row {row} are cut off"
            );
            let columns = &pool[at..at + count as usize];
            let ascending = columns.windows(2).all(|pair| pair[0] < pair[1]);
            let inside = columns.iter().all(|&column| column >= 0 && (column as usize) < length);
            ensure!(
                ascending && inside,
                "planned-attention: columns of row {row} are not ascending within {length} keys"
            );
        }
        Ok((Self::Plan(plan), lengths))
    }

    pub fn causal(&self) -> bool {
        match self {
            Self::Dense { causal, .. } => *causal,
            Self::Plan(plan) => plan.causal,
        }
    }

    pub fn window(&self) -> usize {
        match self {
            Self::Dense { window, .. } => *window,
            Self::Plan(plan) => plan.window,
        }
    }

    /// Ranges that queries `first … first + count` of a head see together, ascending and disjoint; positions are those of the first and
    /// last query.
    pub fn of_block(
        &self,
        batch: usize,
        head: usize,
        first: usize,
        count: usize,
        positions: (i64, i64),
        length_k: usize,
        out: &mut Vec<KeyRange>,
    ) {
        out.clear();
        let (from, to) = positions;
        match self {
            Self::Dense { causal, window } => {
                let end = if *causal {
                    (to + 1).clamp(0, length_k as i64) as usize
                } else {
                    length_k
                };
                let start = if *window > 0 {
                    (from + 1 - *window as i64).clamp(0, end as i64) as usize
                } else {
                    0
                };
                push(out, start, end, true);
            }
            Self::Plan(plan) => {
                let mask = plan.pool[plan.head_map + head] as usize;
                let row = (batch * plan.mask_heads + mask) * plan.rows_per_head;
                // A work item may span several rows of a fine plan, or lie inside one of a coarse plan.
                let rows = first / plan.block_q..(first + count - 1) / plan.block_q + 1;
                debug_assert_eq!(rows.len(), 1);
                for row in rows.map(|index| row + index) {
                    plan.row(row, out);
                }
            }
        }
    }

    /// Largest number of queries from `first` that share one list of ranges.
    pub fn uniform(&self, first: usize, count: usize) -> usize {
        match self {
            Self::Dense { .. } => count,
            Self::Plan(plan) => count.min(plan.block_q - first % plan.block_q),
        }
    }

    /// True when all heads of a call see the same keys.
    pub fn shared(&self, heads: std::ops::Range<usize>) -> bool {
        match self {
            Self::Dense { .. } => true,
            Self::Plan(plan) => {
                let map = &plan.pool[plan.head_map + heads.start..plan.head_map + heads.end];
                map.iter().all(|mask| mask == &map[0])
            }
        }
    }
}

impl Plan<'_> {
    /// Ranges and columns of a row, merged in ascending order.
    fn row(&self, row: usize, out: &mut Vec<KeyRange>) {
        let begin = self.pool[self.range_begin + row] as usize;
        let count = self.pool[self.range_count + row] as usize;
        let column_begin = self.columns + self.pool[self.column_begin + row] as usize;
        let columns = &self.pool[column_begin..column_begin + self.pool[self.column_count + row] as usize];
        let mut next = 0;
        for range in begin..begin + count {
            let at = self.ranges + 3 * range;
            let (start, end) = (self.pool[at] as usize, self.pool[at + 1] as usize);
            while next < columns.len() && (columns[next] as usize) < start {
                push(out, columns[next] as usize, columns[next] as usize + 1, true);
                next += 1;
            }
            // A column inside a range is a mistake of the plan's maker; counting it twice would be worse than dropping it.
            while next < columns.len() && (columns[next] as usize) < end {
                next += 1;
            }
            push(out, start, end, self.pool[at + 2] == 1);
        }
        for &column in &columns[next..] {
            push(out, column as usize, column as usize + 1, true);
        }
    }
}

fn push(out: &mut Vec<KeyRange>, start: usize, end: usize, tested: bool) {
    if end > start {
        out.push(KeyRange { start, end, tested });
    }
}

/// The keys of one tile that a block of queries reads. Bit i of the masks is key `start + i`.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    pub start: usize,
    pub end: usize,
    /// Keys that every query of the block sees.
    pub open: u64,
    /// Keys that a query sees when causality and window allow it.
    pub tested: u64,
}

impl Visit {
    pub fn segment(&self) -> usize {
        self.start / SEGMENT
    }

    /// The visit's keys from `low` to `high`, both included.
    fn between(&self, low: i64, high: i64) -> u64 {
        let from = low.saturating_sub(self.start as i64).clamp(0, 64) as u32;
        let to = high.saturating_add(1).saturating_sub(self.start as i64).clamp(0, 64) as u32;
        if from >= to {
            return 0;
        }
        (u64::MAX >> (64 - (to - from))) << from
    }

    /// The keys that a query sees whose predicates leave it `low … high`.
    pub fn seen(&self, low: i64, high: i64) -> u64 {
        self.open | (self.tested & self.between(low, high))
    }

    /// All keys from `start` to `end`.
    pub fn all(&self) -> u64 {
        u64::MAX >> (64 - (self.end - self.start))
    }
}

/// Lets every visit begin at an even position, where pairs of keys do; a key before its ranges is one that nobody sees.
pub fn begin_even(visits: &mut [Visit]) {
    for visit in visits {
        let odd = visit.start % 2;
        visit.start -= odd;
        visit.open <<= odd;
        visit.tested <<= odd;
    }
}

/// One visit per tile that the ranges touch, in order: a row's keys are summed tile by tile, however the ranges cut them.
pub fn visits_of(ranges: &[KeyRange], visits: &mut Vec<Visit>) {
    visits.clear();
    for range in ranges {
        let mut start = range.start;
        while start < range.end {
            let end = ((start / TILE + 1) * TILE).min(range.end);
            let continued = visits.last().is_some_and(|visit| visit.start / TILE == start / TILE);
            if !continued {
                visits.push(Visit {
                    start,
                    end,
                    open: 0,
                    tested: 0,
                });
            }
            if let Some(visit) = visits.last_mut() {
                visit.end = end;
                let keys = visit.between(start as i64, end as i64 - 1);
                *(if range.tested { &mut visit.tested } else { &mut visit.open }) |= keys;
            }
            start = end;
        }
    }
}
