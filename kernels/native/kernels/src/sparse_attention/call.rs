//! sparse_attention_attention and _planned_attention — exact attention with online softmax over key ranges.
//! Contracts: packages/sparse-attention/src/ops/{attention,planned-attention}.ts.
//!
//! q f32 [B,Hq,Lq,D] or [B,Lq,Hq,D]; k, v f32 or f16 [pages,Hk,P,D|Dv]; o as q with Dv; lse f32 [B,Hq,Lq], natural logarithm.
//! Work item = (batch, kv head, block of query positions); every item owns its rows of o and lse. Per query row the arithmetic is a
//! function of its own keys alone: dots run over channels in order, keys in order, tiles at fixed multiples of 64 key positions. So a row
//! has the same bits in decode, in a prompt, beside other rows, and for any number of threads. Where there are fewer items than threads and
//! many keys, an item is cut along its keys into pieces of some segments of 256 positions, which every row sums one by one in any case.
//! Operations 2·cells·(D + Dv); bytes: K and V of the visible keys once per block of 16 positions or 192 rows.

use super::block::{attend, Query};
use super::keys::{KeySource, Ranges, SEGMENT};
use super::partial::{Row, NONE};
use crate::call::Call;
use crate::pool::Disjoint;
use crate::simd::Simd;
use crate::{ensure, KernelError};
use std::cell::Cell;
use std::ops::Range;

/// Query rows of a work item that its tiles are brought in for, where there are enough items.
const ROWS: usize = 192;
/// Query positions per work item are multiples of this.
const BLOCK: usize = 16;

/// Everything about one call that does not change between work items.
pub struct Shape {
    pub batch: usize,
    pub query_heads: usize,
    pub kv_heads: usize,
    pub length_q: usize,
    pub dim: usize,
    pub value_dim: usize,
    /// Element strides of q per position and head; those of o follow with `value_dim`.
    pub position_stride: usize,
    pub head_stride: usize,
    /// scale · log2 e, applied to q, or to the dots of bfloat16; with a softcap, scale alone.
    pub query_scale: f32,
    /// 0: none.
    pub softcap: f32,
    /// Products of numbers rounded to bfloat16.
    pub bf16: bool,
}

impl Shape {
    pub fn group(&self) -> usize {
        self.query_heads / self.kv_heads
    }

    /// Offset of (batch, head, position) in q, in units of one head's row.
    pub fn row(&self, batch: usize, head: usize, position: usize) -> usize {
        batch * self.query_heads * self.length_q + head * self.head_stride + position * self.position_stride
    }

    /// lse is [B, Hq, Lq] whatever the layout of q.
    fn lse_row(&self, batch: usize, head: usize, index: usize) -> usize {
        (batch * self.query_heads + head) * self.length_q + index
    }

    /// Writes a finished row.
    ///
    /// # Safety
    /// Nobody else writes the row.
    unsafe fn store(
        &self,
        batch: usize,
        (head, index): (usize, usize),
        largest: f32,
        sum: f32,
        values: impl Fn(usize) -> f32,
        o: &Disjoint<f32>,
        lse: &Disjoint<f32>,
    ) {
        let row = self.row(batch, head, index);
        // SAFETY: the caller's promise.
        let (o, lse) = unsafe {
            (
                o.part(row * self.value_dim, self.value_dim),
                lse.part(self.lse_row(batch, head, index), 1),
            )
        };
        if sum == 0.0 {
            o.fill(0.0);
            lse[0] = f32::NEG_INFINITY;
            return;
        }
        let inverse = 1.0 / sum;
        for (channel, value) in o.iter_mut().enumerate() {
            *value = values(channel) * inverse;
        }
        lse[0] = natural(largest, sum);
    }
}

/// Log-sum-exp of a row from its base-2 maximum and sum.
fn natural(largest: f32, sum: f32) -> f32 {
    largest * std::f32::consts::LN_2 + sum.ln()
}

fn shape_of(call: &Call, attrs: (usize, usize, usize, usize)) -> Result<Shape, KernelError> {
    let (q, k, v) = (call.input(0)?, call.input(1)?, call.input(2)?);
    ensure!(
        q.shape.len() == 4 && k.shape.len() == 4 && v.shape.len() == 4,
        "attention: q, k and v must have four axes"
    );
    let heads_first = call.attr_usize(attrs.2)? == 0;
    let (query_heads, length_q) = if heads_first {
        (q.shape[1], q.shape[2])
    } else {
        (q.shape[2], q.shape[1])
    };
    let (kv_heads, dim, value_dim) = (k.shape[1], q.shape[3], v.shape[3]);
    ensure!(
        k.shape[3] == dim && v.shape[..3] == k.shape[..3],
        "attention: k {:?} and v {:?} do not fit q {:?}",
        k.shape,
        v.shape,
        q.shape
    );
    ensure!(
        kv_heads > 0 && query_heads.is_multiple_of(kv_heads),
        "attention: {query_heads} query heads do not share {kv_heads} key-value heads"
    );
    ensure!(
        dim <= 1024 && value_dim <= 1024,
        "attention: head dims above 1024 are not supported"
    );
    let scale = call.attr(attrs.0)? as f32;
    let softcap = call.attr(attrs.1)? as f32;
    Ok(Shape {
        batch: q.shape[0],
        query_heads,
        kv_heads,
        length_q,
        dim,
        value_dim,
        position_stride: if heads_first { 1 } else { query_heads },
        head_stride: if heads_first { length_q } else { 1 },
        query_scale: if softcap > 0.0 {
            scale
        } else {
            scale * std::f32::consts::LOG2_E
        },
        softcap,
        bf16: call.attr_usize(attrs.3)? == 1,
    })
}

pub fn dense(call: &mut Call) -> Result<(), KernelError> {
    let shape = shape_of(call, (0, 1, 5, 6))?;
    let (causal, window) = (call.attr_bool(2)?, call.attr_usize(3)?);
    let length_k = call.attr(4)?;
    let pages = call.input(1)?.shape[0];
    let page_size = call.input(1)?.shape[2];
    let table = call.optional(3).map(|table| table.i32s()).transpose()?;
    let capacity = match table {
        Some(table) => table.len() / shape.batch.max(1) * page_size,
        None => page_size,
    };
    let mut lengths = vec![if length_k < 0.0 { capacity } else { length_k as usize }; shape.batch];
    if let Some(given) = call.optional(4) {
        let given = given.i32s()?;
        ensure!(
            given.len() == shape.batch,
            "attention: lengths has {} elements for a batch of {}",
            given.len(),
            shape.batch
        );
        for (length, &given) in lengths.iter_mut().zip(given) {
            *length = usize::try_from(given).map_err(|_| KernelError(format!("attention: length {given} is negative")))?;
        }
    }
    ensure!(
        lengths.iter().all(|&length| length <= capacity),
        "attention: lengths {lengths:?} exceed the {capacity} keys of k"
    );
    ensure!(
        table.is_some() || pages == shape.batch || shape.batch == 0,
        "attention: k has {pages} pages for a batch of {}",
        shape.batch
    );
    let ranges = Ranges::Dense { causal, window };
    run(call, &shape, table, &lengths, &ranges)
}

pub fn planned(call: &mut Call) -> Result<(), KernelError> {
    let shape = shape_of(call, (0, 1, 2, 3))?;
    let plan = call.input(3)?.i32s()?;
    let table = call.optional(4).map(|table| table.i32s()).transpose()?;
    let page_size = call.input(1)?.shape[2];
    let capacity = table.map_or(page_size, |table| table.len() / shape.batch.max(1) * page_size);
    let (ranges, lengths) = Ranges::from_plan(plan, shape.batch, shape.query_heads, shape.length_q)?;
    ensure!(
        lengths.iter().all(|&length| length <= capacity),
        "planned-attention: the plan's lengths {lengths:?} exceed {capacity} keys"
    );
    ensure!(
        table.is_some() || call.input(1)?.shape[0] == shape.batch || shape.batch == 0,
        "planned-attention: k does not have a page per batch element"
    );
    run(call, &shape, table, &lengths, &ranges)
}

fn run(call: &mut Call, shape: &Shape, table: Option<&[i32]>, lengths: &[usize], ranges: &Ranges) -> Result<(), KernelError> {
    let q = call.input(0)?.f32s()?;
    let source = KeySource::new(call.input(1)?, call.input(2)?, table, shape.batch)?;
    let (pool, cpu) = (call.pool, call.cpu);
    let [o, lse] = call.outputs else {
        return Err(KernelError("attention: o and lse are missing".into()));
    };
    let (o, lse) = (o.f32s()?, lse.f32s()?);
    let rows = shape.batch * shape.query_heads * shape.length_q;
    ensure!(
        q.len() == rows * shape.dim && o.len() == rows * shape.value_dim && lse.len() == rows,
        "attention: q, o or lse do not fit"
    );
    if rows == 0 {
        return Ok(());
    }
    let columns = shape.batch * shape.kv_heads;
    let large = (ROWS / shape.group()).next_multiple_of(BLOCK);
    // Long rows are more work than short ones: some items per thread even that out.
    let block = if columns * shape.length_q.div_ceil(large) >= 8 * pool.threads() {
        large
    } else {
        BLOCK
    };
    let blocks = shape.length_q.div_ceil(block);
    let (o, lse) = (Disjoint::new(o), Disjoint::new(lse));
    let items = columns * blocks;
    let segments = lengths.iter().map(|length| length.div_ceil(SEGMENT)).max().unwrap_or(0);
    let split = segments > 1 && items < 4 * pool.threads() && pool.threads() > 1;
    // Per row and segment: maximum, sum, Dv values.
    let width = shape.value_dim + 2;
    let mut parts = PARTS.take();
    if split {
        parts.resize(rows * segments * width, 0.0);
        // What no piece visits has seen no key.
        for part in parts.chunks_exact_mut(width) {
            part[1] = 0.0;
        }
    }
    let partials = Disjoint::new(&mut parts);
    // Enough pieces to balance the threads, each as long as can be: the keys of a piece stream.
    let pieces = if split {
        segments.min((4 * pool.threads()).div_ceil(items))
    } else {
        1
    };
    pool.run(items * pieces, &|job| {
        let (item, piece) = (job / pieces, job % pieces);
        // Long rows come last in a causal prompt: start with them, so that the threads end together.
        let first = (blocks - 1 - item / columns) * block;
        let (batch, kv_head) = (item / shape.kv_heads % shape.batch, item % shape.kv_heads);
        let count = block.min(shape.length_q - first);
        let work = Work {
            shape,
            q,
            source: &source,
            ranges,
            length_k: lengths[batch],
            batch,
            kv_head,
            first,
            count,
            o: &o,
            lse: &lse,
            piece: split.then_some(Piece {
                segments: piece * segments / pieces..(piece + 1) * segments / pieces,
                count: segments,
                partials: &partials,
            }),
        };
        attend(cpu, &work);
    });
    if split {
        let parts = &parts;
        pool.run(shape.batch * shape.query_heads, &|job| {
            let (batch, head) = (job / shape.query_heads, job % shape.query_heads);
            let mut values = vec![0f32; shape.value_dim];
            for index in 0..shape.length_q {
                values.fill(0.0);
                let mut row = Row {
                    largest: NONE,
                    sum: 0.0,
                    values: &mut values,
                };
                let at = shape.lse_row(batch, head, index) * segments;
                for part in parts[at * width..(at + segments) * width].chunks_exact(width) {
                    row.merge(part[0], part[1], &part[2..]);
                }
                let (largest, sum) = (row.largest, row.sum);
                // SAFETY: (batch, head, position) belongs to this job alone.
                unsafe { shape.store(batch, (head, index), largest, sum, |channel| values[channel], &o, &lse) };
            }
        });
    }
    PARTS.set(parts);
    Ok(())
}

thread_local! {
    /// Results of segments, kept between calls of a thread.
    static PARTS: Cell<Vec<f32>> = Cell::default();
}

/// A work item that covers some key segments leaves their rows here.
pub struct Piece<'a> {
    segments: Range<usize>,
    count: usize,
    partials: &'a Disjoint<f32>,
}

/// One work item.
pub struct Work<'a> {
    pub shape: &'a Shape,
    pub q: &'a [f32],
    pub source: &'a KeySource<'a>,
    pub ranges: &'a Ranges<'a>,
    pub length_k: usize,
    pub batch: usize,
    pub kv_head: usize,
    /// First query position of the block and how many there are.
    pub first: usize,
    pub count: usize,
    o: &'a Disjoint<f32>,
    lse: &'a Disjoint<f32>,
    /// All keys when there is none.
    piece: Option<Piece<'a>>,
}

impl Work<'_> {
    /// Key position that query `index` of the call sits at: the last query sees the last key.
    pub fn position(&self, index: usize) -> i64 {
        index as i64 + self.length_k as i64 - self.shape.length_q as i64
    }

    /// The keys that causality and window leave to query `index`, both ends included.
    pub fn bounds(&self, index: usize) -> (i64, i64) {
        let position = self.position(index);
        let low = match self.ranges.window() {
            0 => i64::MIN,
            window => position + 1 - window as i64,
        };
        (low, if self.ranges.causal() { position } else { i64::MAX })
    }

    /// The key segments this item is limited to; their results go to [`leave`](Self::leave) one by one instead of being merged.
    pub fn segments(&self) -> Option<Range<usize>> {
        self.piece.as_ref().map(|piece| piece.segments.clone())
    }

    /// Takes a row's result; `sum` = 0 means that no key was seen.
    pub fn finish(&self, query: (usize, usize), largest: f32, sum: f32, values: impl Fn(usize) -> f32) {
        // SAFETY: (batch, head, position) belongs to this work item alone.
        unsafe { self.shape.store(self.batch, query, largest, sum, values, self.o, self.lse) };
    }

    /// Takes the results of LANES rows of one head from `query` on, all of which saw keys: values are divided already, [Dv] rows of `width`.
    ///
    /// # Safety
    /// As for [`Simd`]; LANES divides Dv, and every row of `values` has LANES elements.
    #[inline(always)]
    pub unsafe fn finish_lanes<S: Simd>(&self, query: Query, largest: &[f32], sums: &[f32], values: *const f32, width: usize) {
        let (shape, (head, index)) = (self.shape, query);
        let (row, value_dim) = (shape.row(self.batch, head, index), shape.value_dim);
        let last = row + (S::LANES - 1) * shape.position_stride;
        // SAFETY: the rows belong to this work item alone; the last one is in bounds.
        let lse = unsafe {
            self.o.part(last * value_dim, value_dim);
            let o = self.o.start_at(row * value_dim);
            for channel in (0..value_dim).step_by(S::LANES) {
                S::transpose(
                    values.add(channel * width),
                    width,
                    o.add(channel),
                    shape.position_stride * value_dim,
                );
            }
            self.lse.part(shape.lse_row(self.batch, head, index), S::LANES)
        };
        for (lse, (&largest, &sum)) in lse.iter_mut().zip(largest.iter().zip(sums)) {
            *lse = natural(largest, sum);
        }
    }

    /// Takes a row's result of one segment of the item's piece.
    pub fn leave(&self, query: (usize, usize), segment: usize, largest: f32, sum: f32, values: impl Fn(usize) -> f32) {
        let Some(piece) = &self.piece else { return };
        let row = self.shape.lse_row(self.batch, query.0, query.1);
        let width = self.shape.value_dim + 2;
        // SAFETY: (row, segment) belongs to this work item alone.
        let part = unsafe { piece.partials.part((row * piece.count + segment) * width, width) };
        part[0] = largest;
        part[1] = sum;
        for (channel, value) in part[2..].iter_mut().enumerate() {
            *value = values(channel);
        }
    }
}
