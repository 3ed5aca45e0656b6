//! Scores of rows of keys (or of bounds) for few queries: each row is brought in once for all queries that read it. Bound by memory.

use super::source::Source;
use super::HIDDEN;
use crate::call::{Call, DType};
use crate::pool::Disjoint;
use crate::simd::Simd;
use crate::sparse_attention::select::source::Pages;
use crate::{ensure, simd_dispatch, KernelError};

/// Rows of keys of a work item.
const ROWS: usize = 64;
/// Queries of a work item.
const QUERIES: usize = 64;
/// Most queries that share the loads of a row.
const SHARED: usize = 4;

/// A call: y[b, head, query, row] = scale · Σ_d of q · low, or of q times what bounds it.
pub struct Scan<'a> {
    pub source: Source<'a>,
    /// The second pages of bounds.
    pub high: Option<Pages<'a>>,
    /// Channels of q that the rows hold, per key-value head; none: all of them.
    pub channels: Option<&'a [i32]>,
    pub scale: f32,
    /// Keys that one row stands for.
    pub keys_per_row: usize,
}

/// Rows of all key-value heads, which lie beside each other in a page, for some of the queries of each.
struct Item {
    batch: usize,
    /// Index of the first (head, query) in every group.
    first: usize,
    row: usize,
    rows: usize,
}

pub fn run(op: &str, call: &mut Call, scan: &Scan) -> Result<(), KernelError> {
    let source = &scan.source;
    let capacity = source.keys.capacity;
    let (pool, cpu) = (call.pool, call.cpu);
    let y = call.output(0)?;
    ensure!(
        y.shape == [source.batch, source.heads, source.length_q, capacity],
        "{op}: y is {:?}",
        y.shape
    );
    let most = source.groups.iter().map(Vec::len).max().unwrap_or(0) * source.length_q;
    let mut items = Vec::new();
    for batch in 0..source.batch {
        for first in (0..most).step_by(QUERIES) {
            for row in (0..capacity).step_by(ROWS) {
                let rows = ROWS.min(capacity - row);
                items.push(Item { batch, first, row, rows });
            }
        }
    }
    let y = Disjoint::new(y.f32s()?);
    pool.run(items.len(), &|index| {
        let item = &items[index];
        let y = &y;
        simd_dispatch!(cpu, score(scan: &Scan, item: &Item, y: &Disjoint<f32>));
    });
    Ok(())
}

/// The queries of an item that read one key-value head.
struct Group {
    kv_head: usize,
    /// Query heads and queries.
    places: Vec<(usize, usize)>,
    /// Their channels, in whole vectors.
    queries: Vec<f32>,
}

fn groups(scan: &Scan, item: &Item, width: usize) -> Vec<Group> {
    let (source, dim) = (&scan.source, scan.source.keys.dim);
    let group = |(kv_head, heads): (usize, &Vec<usize>)| {
        let all = heads.len() * source.length_q;
        let places: Vec<_> = (item.first..all.min(item.first + QUERIES))
            .map(|index| (heads[index / source.length_q], index % source.length_q))
            .collect();
        let mut queries = vec![0f32; places.len() * width];
        for (query, &(head, index)) in queries.chunks_exact_mut(width.max(1)).zip(&places) {
            let row = source.query(item.batch, head, index);
            match scan.channels {
                Some(channels) => {
                    let channels = &channels[kv_head * dim..][..dim];
                    for (value, &channel) in query.iter_mut().zip(channels) {
                        *value = row[channel as usize];
                    }
                }
                None => query[..dim].copy_from_slice(row),
            }
        }
        Group {
            kv_head,
            places,
            queries,
        }
    };
    source.groups.iter().enumerate().map(group).collect()
}

/// # Safety
/// As for [`Simd`]; no other job writes the item's cells of y.
#[inline(always)]
unsafe fn score<S: Simd>(scan: &Scan, item: &Item, y: &Disjoint<f32>) {
    let source = &scan.source;
    let width = source.keys.dim.next_multiple_of(S::LANES);
    let groups = groups(scan, item, width);
    let mut low = Rows::new::<S>(&source.keys, width);
    let mut high = scan.high.as_ref().map(|pages| Rows::new::<S>(pages, width));
    let mut sums = [[0f32; 16]; SHARED];
    for row in (item.row..item.row + item.rows).step_by(S::LANES) {
        let count = S::LANES.min(item.row + item.rows - row);
        for group in &groups {
            let seen = |query: usize| {
                let keys = source.visible(item.batch, query);
                // Rows whose first key is visible.
                keys.div_ceil(scan.keys_per_row).saturating_sub(row).min(count)
            };
            let any = group.places.iter().any(|&(_, query)| seen(query) > 0);
            if any {
                // SAFETY: the caller's promise.
                unsafe {
                    low.find::<S>((item.batch, group.kv_head), row, count);
                    if let Some(high) = &mut high {
                        high.find::<S>((item.batch, group.kv_head), row, count);
                    }
                }
            }
            for (index, places) in group.places.chunks(SHARED).enumerate() {
                if any {
                    let queries = &group.queries[index * SHARED * width..][..places.len() * width];
                    // SAFETY: rows and queries have `width` elements, a multiple of LANES.
                    unsafe { sums_of::<S>(queries, width, &low, high.as_ref(), &mut sums) };
                }
                for (&(head, query), sums) in places.iter().zip(&sums) {
                    let at = ((item.batch * source.heads + head) * source.length_q + query) * source.keys.capacity + row;
                    // SAFETY: the caller's promise.
                    let out = unsafe { y.part(at, count) };
                    let (shown, hidden) = out.split_at_mut(seen(query));
                    for (out, &sum) in shown.iter_mut().zip(sums) {
                        *out = scan.scale * sum;
                    }
                    hidden.fill(HIDDEN);
                }
            }
        }
    }
}

/// Types of numbers that rows are read as.
const F32: u8 = 0;
const F16: u8 = 1;
const BF16: u8 = 2;

/// LANES rows of keys: where they lie, where that is in whole vectors, and in a copy otherwise.
struct Rows<'a> {
    pages: &'a Pages<'a>,
    width: usize,
    copy: Vec<f32>,
    /// Where each row begins; rows that there are not repeat the last one.
    at: [*const u8; 16],
    /// The rows that are read next time.
    ahead: [&'a [u8]; 16],
    /// Of the numbers at `at`.
    dtype: DType,
}

impl<'a> Rows<'a> {
    fn new<S: Simd>(pages: &'a Pages<'a>, width: usize) -> Self {
        let direct = pages.dim == width;
        Self {
            pages,
            width,
            copy: vec![0.0; if direct { 0 } else { S::LANES * width }],
            at: [std::ptr::null(); 16],
            ahead: [&[]; 16],
            dtype: if direct { pages.dtype } else { DType::F32 },
        }
    }

    /// # Safety
    /// As for [`Simd`]; 1 … LANES rows from `first` on are below the capacity.
    #[inline(always)]
    unsafe fn find<S: Simd>(&mut self, (batch, head): (usize, usize), first: usize, count: usize) {
        let direct = self.pages.dim == self.width;
        if !direct {
            // SAFETY: the caller's promise.
            unsafe { self.pages.load::<S>(batch, head, first, count, self.width, &mut self.copy) };
        }
        for lane in 0..S::LANES {
            let row = lane.min(count - 1);
            self.at[lane] = if direct {
                let ahead = first + S::LANES + row;
                self.ahead[lane] = if ahead < self.pages.capacity {
                    self.pages.bytes_of(batch, head, ahead)
                } else {
                    &[]
                };
                self.pages.bytes_of(batch, head, first + row).as_ptr()
            } else {
                self.copy[row * self.width..].as_ptr().cast()
            };
        }
    }

    /// Asks for the row that is read LANES rows later: a few lines at a time, as many at once would wait for each other.
    #[inline(always)]
    fn ask<S: Simd>(&self, row: usize) {
        for line in self.ahead[row].iter().step_by(64) {
            S::prefetch(line);
        }
    }
}

/// Sums of [`SHARED`] queries at most.
///
/// # Safety
/// As for [`Simd`]; rows were found, and they and the queries have `width` elements, a multiple of LANES.
#[inline(always)]
unsafe fn sums_of<S: Simd>(queries: &[f32], width: usize, low: &Rows, high: Option<&Rows>, sums: &mut [[f32; 16]; SHARED]) {
    // SAFETY: the caller's promise.
    unsafe {
        match (high, low.dtype) {
            (Some(high), DType::F16) => by_count::<S, true, F16>(queries, width, low, high, sums),
            (Some(high), DType::BF16) => by_count::<S, true, BF16>(queries, width, low, high, sums),
            (Some(high), _) => by_count::<S, true, F32>(queries, width, low, high, sums),
            (None, DType::F16) => by_count::<S, false, F16>(queries, width, low, low, sums),
            (None, DType::BF16) => by_count::<S, false, BF16>(queries, width, low, low, sums),
            (None, _) => by_count::<S, false, F32>(queries, width, low, low, sums),
        }
    }
}

/// # Safety
/// As for [`sums_of`].
#[inline(always)]
unsafe fn by_count<S: Simd, const BOUNDS: bool, const T: u8>(
    queries: &[f32],
    width: usize,
    low: &Rows,
    high: &Rows,
    sums: &mut [[f32; 16]; SHARED],
) {
    // SAFETY: the caller's promise. Registers: queries × rows of a block, and a few.
    unsafe {
        match (queries.len() / width.max(1), S::LANES >= 4) {
            (1, true) => row_sums::<S, BOUNDS, T, 1, 4>(queries, width, low, high, sums),
            (2, true) => row_sums::<S, BOUNDS, T, 2, 4>(queries, width, low, high, sums),
            (3, true) => row_sums::<S, BOUNDS, T, 3, 4>(queries, width, low, high, sums),
            (4, true) => row_sums::<S, BOUNDS, T, 4, 4>(queries, width, low, high, sums),
            (count, _) => {
                for query in 0..count {
                    let (own, sums) = (&queries[query * width..], &mut sums[query..]);
                    row_sums::<S, BOUNDS, T, 1, 1>(own, width, low, high, sums);
                }
            }
        }
    }
}

/// sums[query][row] = Σ_d q_d · low_d, or with BOUNDS Σ_d q_d · (low_d where q_d < 0, high_d elsewhere), of Q queries and LANES rows, B at a time.
///
/// # Safety
/// As for [`sums_of`], rows of type T; B divides LANES.
#[inline(always)]
unsafe fn row_sums<S: Simd, const BOUNDS: bool, const T: u8, const Q: usize, const B: usize>(
    queries: &[f32],
    width: usize,
    low: &Rows,
    high: &Rows,
    sums: &mut [[f32; 16]],
) {
    let mut parts = [[0f32; 256]; Q];
    // SAFETY: `LANES ≤ 16` rows of `LANES` parts; the caller's promise.
    unsafe {
        for first in (0..S::LANES).step_by(B) {
            let mut found = [[S::splat(0.0); B]; Q];
            for row in first..first + B {
                low.ask::<S>(row);
                if BOUNDS {
                    high.ask::<S>(row);
                }
            }
            for at in (0..width).step_by(S::LANES) {
                let mut own = [S::splat(0.0); Q];
                let mut negative = [0u32; Q];
                for query in 0..Q {
                    own[query] = S::load(queries.as_ptr().add(query * width + at));
                    negative[query] = S::greater(S::splat(0.0), own[query]);
                }
                for row in 0..B {
                    let a = load::<S, T>(low.at[first + row], at);
                    let b = if BOUNDS { load::<S, T>(high.at[first + row], at) } else { a };
                    for query in 0..Q {
                        let bound = if BOUNDS { S::select(negative[query], a, b) } else { a };
                        found[query][row] = S::fma(own[query], bound, found[query][row]);
                    }
                }
            }
            for query in 0..Q {
                for row in 0..B {
                    S::store(parts[query].as_mut_ptr().add((first + row) * S::LANES), found[query][row]);
                }
            }
        }
        let mut flipped = [0f32; 256];
        for (parts, sums) in parts.iter().zip(sums) {
            S::transpose(parts.as_ptr(), S::LANES, flipped.as_mut_ptr(), S::LANES);
            let mut sum = S::splat(0.0);
            for part in 0..S::LANES {
                sum = S::add(sum, S::load(flipped.as_ptr().add(part * S::LANES)));
            }
            S::store(sums.as_mut_ptr(), sum);
        }
    }
}

/// # Safety
/// As for [`Simd`]; LANES numbers from `element` on lie behind `row`.
#[inline(always)]
unsafe fn load<S: Simd, const T: u8>(row: *const u8, element: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        match T {
            F16 => S::load_f16(row.add(2 * element).cast()),
            BF16 => S::load_bf16(row.add(2 * element).cast()),
            _ => S::load(row.add(4 * element).cast()),
        }
    }
}
