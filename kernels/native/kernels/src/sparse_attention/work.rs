//! How a call is cut into work items, and what becomes of their rows.
//!
//! A work item is (batch, kv head, block of query positions); it owns its rows of o and lse. Per query row the arithmetic is a function of the
//! list of keys of its row block, up to the last one that it sees: dots run over channels in order, keys in order, tiles are 64 entries of the
//! list. So a row has the same bits in decode, in a prompt, beside other rows, and for any number of threads, where the lists begin alike. Where there are fewer items than threads and many keys, an item is
//! cut along its keys into pieces of some segments of 256 entries, which every row sums one by one in any case.

use super::block::{attend, Query};
use super::keys::KeySource;
use super::list::{Cut, SEGMENT};
use super::partial::{Row, NONE};
use super::shape::{natural, Shape};
use super::visible::{Lengths, Visible};
use crate::call::{Call, TensorRef};
use crate::pool::Disjoint;
use crate::simd::Simd;
use crate::{ensure, KernelError};
use std::cell::Cell;
use std::ops::Range;

/// Query rows of a work item that its tiles are brought in for, where there are enough items.
const ROWS: usize = 192;
/// Fewest query positions of an item where there are more.
const BLOCK: usize = 16;

thread_local! {
    /// Results of segments, kept between calls of a thread.
    static PARTS: Cell<Vec<f32>> = Cell::default();
}

/// What a call attends to.
pub struct Task<'a> {
    pub shape: Shape,
    pub table: Option<&'a [i32]>,
    pub lengths: Lengths,
    pub visible: Visible<'a>,
    /// Added to the scores of keys, [pages, Hk, P].
    pub bias: Option<&'a [f32]>,
    /// Query heads of each key-value head.
    pub heads: Vec<Vec<usize>>,
}

/// A block of queries of the heads that share a key-value head.
#[derive(Clone, Copy)]
struct Item {
    batch: usize,
    kv_head: usize,
    first: usize,
    count: usize,
}

impl Task<'_> {
    /// Query positions per item: few items are no work for the threads.
    fn block(&self, threads: usize) -> usize {
        let group = self.shape.query_heads.div_ceil(self.shape.kv_heads).max(1);
        let mut block = (ROWS / group).next_multiple_of(BLOCK);
        if let Visible::Plan(plan) = &self.visible {
            // Tiles that are gathered serve the whole row block.
            block = match plan.block_q {
                size if size >= 2 * block => 2 * block,
                size if size >= block => size,
                size => block / size * size,
            };
        }
        let columns = self.shape.batch * self.shape.kv_heads;
        while block > BLOCK && columns * self.shape.length_q.div_ceil(block) < 8 * threads {
            block = (block / 2).max(BLOCK);
        }
        block
    }

    /// Items by descending work, as far as it is known: threads that begin with the long ones end together.
    fn items(&self, threads: usize) -> Vec<Item> {
        let block = self.block(threads);
        let mut items = vec![];
        for first in (0..self.shape.length_q).step_by(block).rev() {
            for batch in 0..self.shape.batch {
                for (kv_head, heads) in self.heads.iter().enumerate() {
                    let count = block.min(self.shape.length_q - first);
                    if !heads.is_empty() {
                        items.push(Item {
                            batch,
                            kv_head,
                            first,
                            count,
                        });
                    }
                }
            }
        }
        if let Visible::Plan(plan) = &self.visible {
            items.sort_by_cached_key(|item| {
                let mut cells = 0;
                for index in (item.first..item.first + item.count).step_by(plan.block_q.min(item.count)) {
                    for &head in &self.heads[item.kv_head] {
                        if index < self.lengths.q[item.batch] {
                            cells += plan.keys[plan.row(item.batch, head, index)];
                        }
                    }
                }
                std::cmp::Reverse(cells)
            });
        }
        items
    }

    /// Runs the call: inputs 0, 1, 2 are q, k and v, outputs o and lse.
    pub fn run(&self, call: &mut Call) -> Result<(), KernelError> {
        let values = call.input(2)?;
        self.run_values(call, values)
    }

    /// [`run`](Self::run) with values that are no argument of the call.
    pub fn run_values(&self, call: &mut Call, values: TensorRef) -> Result<(), KernelError> {
        let shape = &self.shape;
        let q = call.input(0)?.f32s()?;
        let source = KeySource::new(call.input(1)?, values, self.table, shape.batch)?.with_bias(self.bias);
        let (pool, cpu) = (call.pool, call.cpu);
        let [o, lse] = call.outputs else {
            return Err(KernelError("attention: o and lse are missing".into()));
        };
        let (o, lse) = (o.f32s()?, lse.f32s()?);
        let rows = shape.batch * shape.query_heads * shape.length_q;
        ensure!(
            q.len() == rows * shape.dim && o.len() == rows * shape.width_of_result() && lse.len() == rows,
            "attention: q, o or lse do not fit"
        );
        let capacity = source.capacity();
        ensure!(
            self.lengths.k.iter().all(|&length| length <= capacity),
            "attention: lengths {:?} exceed the {capacity} keys of k",
            self.lengths.k
        );
        if rows == 0 {
            return Ok(());
        }
        let (o, lse) = (Disjoint::new(o), Disjoint::new(lse));
        let items = self.items(pool.threads());
        let segments = self.visible.longest(&self.lengths).div_ceil(SEGMENT);
        // A tile is left out by what all tiles before it held, which one thread has to see.
        let split = segments > 1 && items.len() < 4 * pool.threads() && pool.threads() > 1 && shape.skip.is_none();
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
            segments.min((4 * pool.threads()).div_ceil(items.len()))
        } else {
            1
        };
        pool.run(items.len() * pieces, &|job| {
            let (item, piece) = (&items[job / pieces], job % pieces);
            let end = (item.first + item.count).min(self.lengths.q[item.batch]).max(item.first);
            let mut work = Work::new(self, (q, &source), (item.batch, item.kv_head), item.first..end, (&o, &lse));
            work.piece = split.then_some(Piece {
                segments: piece * segments / pieces..(piece + 1) * segments / pieces,
                count: segments,
                partials: &partials,
            });
            attend(cpu, &work);
            if !split {
                // Queries beyond the element's length see nothing.
                for index in end..item.first + item.count {
                    for &head in &self.heads[item.kv_head] {
                        work.finish((head, index), NONE, 0.0, |_| 0.0);
                    }
                }
            }
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
}

/// A work item that covers some key segments leaves their rows here.
pub struct Piece<'a> {
    segments: Range<usize>,
    count: usize,
    partials: &'a Disjoint<f32>,
}

/// One work item.
pub struct Work<'a> {
    pub task: &'a Task<'a>,
    pub shape: &'a Shape,
    pub q: &'a [f32],
    pub source: &'a KeySource<'a>,
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

impl<'a> Work<'a> {
    /// Some queries of the heads of a key-value head against all of their keys.
    pub fn new(
        task: &'a Task<'a>,
        (q, source): (&'a [f32], &'a KeySource<'a>),
        (batch, kv_head): (usize, usize),
        queries: Range<usize>,
        (o, lse): (&'a Disjoint<f32>, &'a Disjoint<f32>),
    ) -> Self {
        Self {
            task,
            shape: &task.shape,
            q,
            source,
            batch,
            kv_head,
            first: queries.start,
            count: queries.len(),
            o,
            lse,
            piece: None,
        }
    }

    /// Query heads of the item.
    pub fn heads(&self) -> &[usize] {
        &self.task.heads[self.kv_head]
    }

    /// Key position that query `index` of the call sits at.
    pub fn position(&self, index: usize) -> i64 {
        index as i64 + self.task.lengths.offset[self.batch]
    }

    pub fn length_k(&self) -> usize {
        self.task.lengths.k[self.batch]
    }

    /// Where tiles end: groups of N:M softmax are positions, and must not be cut.
    pub fn cut(&self) -> Cut {
        if self.shape.most.is_some() {
            Cut::Positions
        } else {
            Cut::Places
        }
    }

    /// The keys that causality and window leave to query `index`, both ends included.
    pub fn bounds(&self, index: usize) -> (i64, i64) {
        let position = self.position(index);
        let low = match self.task.visible.window() {
            0 => i64::MIN,
            window => position + 1 - window as i64,
        };
        (low, if self.task.visible.causal() { position } else { i64::MAX })
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
        if shape.stats {
            for lane in 0..S::LANES {
                self.finish((head, index + lane), largest[lane], sums[lane], |_| 0.0);
            }
            return;
        }
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
