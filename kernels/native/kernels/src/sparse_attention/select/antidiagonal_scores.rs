//! sparse_attention_antidiagonal_scores — mass of blocks from antidiagonals. Contract:
//! packages/sparse-attention/src/select/antidiagonal-scores.ts.
//!
//! A product with inner length stride · D: a strided column of keys is `stride` rows one behind the other, read as one long row where they lie; the
//! strided rows of a block of queries are packed once, [stride · D][lanes], lanes being (head of the group, strided row). Columns go through in order,
//! a block at a time, with a running maximum; of a block and lane only its sum and the maximum it is relative to are kept.
//! Operations 2·S·D·(rows · columns)/2; every item reads the keys it sees once.

use super::product::products;
use super::source::{Places, Source};
use super::HIDDEN;
use crate::call::Call;
use crate::pool::Disjoint;
use crate::simd::{exp2_down, Simd};
use crate::{ensure, simd_dispatch, with_blocks, KernelError};

const OP: &str = "antidiagonal-scores";
/// Lanes of a work item, where there are enough.
const LANES: usize = 96;
/// Columns that are scored before they are summed, at least.
const COLUMNS: usize = 16;

struct Job<'a> {
    source: Source<'a>,
    stride: usize,
    block: usize,
    /// scale / stride · log2 e.
    factor: f32,
    rows: usize,
    columns: usize,
}

/// Row blocks of some heads that read the same keys.
struct Item {
    batch: usize,
    kv_head: usize,
    heads: std::ops::Range<usize>,
    blocks: std::ops::Range<usize>,
}

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let places = Places {
        q: 0,
        table: 2,
        lengths: 3,
        kv_map: 4,
        layout: 3,
        length_k: 4,
        keys_per_row: 1,
    };
    let source = Source::new(OP, call, call.input(1)?, &places)?;
    ensure!(source.dim == source.keys.dim, "{OP}: q and k differ in the head dim");
    let (stride, block) = (call.attr_usize(1)?, call.attr_usize(2)?);
    ensure!(
        stride > 0 && block > 0 && block.is_multiple_of(stride),
        "{OP}: block {block} is no multiple of stride {stride}"
    );
    let factor = (call.attr(0)? / stride as f64 * std::f64::consts::LOG2_E) as f32;
    // No query of so wide a stride meets a key, and one block holds them all: a wider one gives the same in more memory.
    let widest = (source.length_q + source.keys.capacity).max(1);
    let (stride, block) = if stride > widest { (widest, widest) } else { (stride, block) };
    let job = Job {
        factor,
        rows: source.length_q.div_ceil(block),
        columns: source.keys.capacity.div_ceil(block),
        source,
        stride,
        block,
    };
    let (pool, cpu) = (call.pool, call.cpu);
    let y = call.output(0)?;
    ensure!(
        y.shape == [job.source.batch, job.source.heads, job.rows, job.columns],
        "{OP}: y is {:?}",
        y.shape
    );
    let y = y.f32s()?;
    y.fill(0.0);
    let items = items(&job);
    let y = Disjoint::new(y);
    pool.run(items.len(), &|index| {
        let (job, item, y) = (&job, &items[index], &y);
        simd_dispatch!(cpu, estimate(job: &Job, item: &Item, y: &Disjoint<f32>));
    });
    Ok(())
}

/// The last rows first: they see the most.
fn items(job: &Job) -> Vec<Item> {
    let per_block = job.block / job.stride;
    let mut items = Vec::new();
    for (batch, &(queries, _)) in job.source.lengths.iter().enumerate() {
        let rows = queries.div_ceil(job.block);
        for (kv_head, group) in job.source.groups.iter().enumerate() {
            let heads = group.len().min((LANES / per_block).max(1));
            let blocks = (LANES / (per_block * heads.max(1))).max(1);
            for head in (0..group.len()).step_by(heads.max(1)) {
                for block in (0..rows).step_by(blocks) {
                    items.push(Item {
                        batch,
                        kv_head,
                        heads: head..group.len().min(head + heads),
                        blocks: block..rows.min(block + blocks),
                    });
                }
            }
        }
    }
    items.sort_by_key(|item| std::cmp::Reverse(item.blocks.start));
    items
}

/// A strided row of queries in a lane.
#[derive(Clone, Copy)]
struct Lane {
    head: usize,
    row: usize,
    /// Strided columns it sees.
    seen: usize,
}

/// Lanes that go through the keys together.
struct Pass {
    lanes: Vec<Lane>,
    /// [stride · D][lanes].
    panel: Vec<f32>,
    largest: Vec<f32>,
    sums: Vec<f32>,
    /// [blocks][lanes]: sums of the blocks, and the maxima they are relative to.
    parts: Vec<f32>,
    tops: Vec<f32>,
}

/// # Safety
/// As for [`Simd`]; no other job writes the item's rows of y.
#[inline(always)]
unsafe fn estimate<S: Simd>(job: &Job, item: &Item, y: &Disjoint<f32>) {
    // SAFETY: the caller's promise.
    unsafe { with_blocks!(S, estimate_blocks(job, item, y)) }
}

/// # Safety
/// As for [`estimate`].
#[inline(always)]
unsafe fn estimate_blocks<S: Simd, const NV: usize, const KU: usize>(job: &Job, item: &Item, y: &Disjoint<f32>) {
    let source = &job.source;
    let (stride, inner, width) = (job.stride, job.stride * source.dim, NV * S::LANES);
    let (queries, length) = source.lengths[item.batch];
    let per_block = job.block / stride;
    let mut lanes = Vec::new();
    for &head in &source.groups[item.kv_head][item.heads.clone()] {
        for row in item.blocks.start * per_block..(item.blocks.end * per_block).min(queries.div_ceil(stride)) {
            let last = ((row + 1) * stride).min(queries) - 1;
            let seen = source.visible(item.batch, last).div_ceil(stride);
            lanes.push(Lane { head, row, seen });
        }
    }
    let columns = lanes.iter().map(|lane| lane.seen).max().unwrap_or(0);
    let blocks = columns.div_ceil(per_block);
    let mut passes: Vec<Pass> = Vec::new();
    // Not by `map`: intrinsics in a closure are left as calls.
    for lanes in lanes.chunks(width) {
        // SAFETY: the caller's promise.
        passes.push(unsafe { Pass::new::<S>(job, item.batch, lanes.to_vec(), width, blocks) });
    }
    let tile = per_block * COLUMNS.div_ceil(per_block);
    let most = tile.min(columns);
    let mut keys = vec![0f32; most * inner];
    let mut scores = vec![0f32; most * width];
    for first in (0..columns).step_by(tile) {
        let count = tile.min(columns - first);
        let (from, to) = (first * stride, ((first + count) * stride).min(length));
        let whole = to == (first + count) * stride;
        let direct = source
            .keys
            .direct(item.batch, item.kv_head, from, to - from)
            .filter(|_| whole);
        let pointer = match direct {
            Some(direct) => direct.as_ptr(),
            None => {
                // SAFETY: the caller's promise.
                unsafe {
                    source
                        .keys
                        .load::<S>(item.batch, item.kv_head, from, to - from, source.dim, &mut keys)
                };
                keys[(to - from) * source.dim..count * inner].fill(0.0);
                keys.as_ptr()
            }
        };
        for pass in &mut passes {
            // SAFETY: `count` rows of `inner` keys, the pass's panel, and scores of `most ≥ count` rows.
            unsafe {
                products::<S, NV, KU>(pointer, count, inner, pass.panel.as_ptr(), scores.as_mut_ptr());
                for at in (0..count).step_by(per_block) {
                    let scores = &mut scores[at * width..(at + per_block.min(count - at)) * width];
                    pass.sum_block::<S, NV>(job.factor, first + at, per_block, scores);
                }
            }
        }
    }
    for pass in &passes {
        pass.store(job, item.batch, width, y);
    }
}

impl Pass {
    /// # Safety
    /// As for [`Simd`].
    #[inline(always)]
    unsafe fn new<S: Simd>(job: &Job, batch: usize, lanes: Vec<Lane>, width: usize, blocks: usize) -> Self {
        let inner = job.stride * job.source.dim;
        let mut panel = vec![0f32; inner * width];
        for (at, rows) in lanes.chunks(S::LANES).enumerate() {
            // SAFETY: the caller's promise; the panel has `width` lanes a row.
            unsafe { pack::<S>(job, batch, rows, &mut panel[at * S::LANES..], width) };
        }
        Self {
            lanes,
            panel,
            largest: vec![HIDDEN; width],
            sums: vec![0.0; width],
            parts: vec![0.0; blocks * width],
            tops: vec![HIDDEN; blocks * width],
        }
    }

    /// Adds the scores of the columns of one block.
    ///
    /// # Safety
    /// As for [`Simd`]; scores of rows of NV · LANES lanes.
    #[inline(always)]
    unsafe fn sum_block<S: Simd, const NV: usize>(&mut self, factor: f32, first: usize, per_block: usize, scores: &mut [f32]) {
        let width = NV * S::LANES;
        let count = scores.len() / width;
        let at = first / per_block * width;
        for vector in 0..NV {
            let from = vector * S::LANES;
            if from >= self.lanes.len() {
                break;
            }
            let lanes = &self.lanes[from..self.lanes.len().min(from + S::LANES)];
            let open = lanes.iter().all(|lane| lane.seen >= first + count);
            let bits = |column: usize| {
                if open {
                    return u32::MAX;
                }
                let seen = |(index, lane): (usize, &Lane)| u32::from(lane.seen > first + column) << index;
                lanes.iter().enumerate().map(seen).fold(0, |bits, bit| bits | bit)
            };
            // SAFETY: vectors of lanes within the rows.
            unsafe {
                let scores = scores.as_mut_ptr().add(from);
                let (none, zero) = (S::splat(HIDDEN), S::splat(0.0));
                let before = S::load(self.largest.as_ptr().add(from));
                let mut top = before;
                for column in 0..count {
                    let score = S::mul(S::load(scores.add(column * width)), S::splat(factor));
                    S::store(scores.add(column * width), score);
                    top = S::max(S::select(bits(column), score, none), top);
                }
                let mut sum = zero;
                for column in 0..count {
                    let weight = exp2_down::<S>(S::sub(S::load(scores.add(column * width)), top));
                    sum = S::add(sum, S::select(bits(column), weight, zero));
                }
                let alpha = exp2_down::<S>(S::sub(before, top));
                let total = S::fma(S::load(self.sums.as_ptr().add(from)), alpha, sum);
                S::store(self.sums.as_mut_ptr().add(from), total);
                S::store(self.largest.as_mut_ptr().add(from), top);
                S::store(self.parts.as_mut_ptr().add(at + from), sum);
                S::store(self.tops.as_mut_ptr().add(at + from), top);
            }
        }
    }

    fn store(&self, job: &Job, batch: usize, width: usize, y: &Disjoint<f32>) {
        let per_block = job.block / job.stride;
        for (lane, &Lane { head, row, seen }) in self.lanes.iter().enumerate() {
            let at = ((batch * job.source.heads + head) * job.rows + row / per_block) * job.columns;
            // SAFETY: the item owns the row blocks of its lanes.
            let y = unsafe { y.part(at, job.columns) };
            for (block, y) in y.iter_mut().enumerate().take(seen.div_ceil(per_block)) {
                let relative = self.tops[block * width + lane] - self.largest[lane];
                *y += self.parts[block * width + lane] * relative.exp2() / self.sums[lane];
            }
        }
    }
}

/// Writes the queries of up to LANES strided rows, last of a row first, as columns of a panel.
///
/// # Safety
/// As for [`Simd`]; the panel has stride · D rows, `width` apart, each with room for the lanes.
#[inline(always)]
unsafe fn pack<S: Simd>(job: &Job, batch: usize, lanes: &[Lane], panel: &mut [f32], width: usize) {
    let source = &job.source;
    let (stride, dim) = (job.stride, source.dim);
    let (queries, _) = source.lengths[batch];
    let adjacent = lanes.len() == S::LANES
        && lanes
            .windows(2)
            .all(|pair| pair[0].head == pair[1].head && pair[0].row + 1 == pair[1].row)
        && lanes.last().is_some_and(|lane| (lane.row + 1) * stride <= queries);
    for step in 0..stride {
        let whole = if adjacent { dim / S::LANES * S::LANES } else { 0 };
        for at in (0..whole).step_by(S::LANES) {
            let first = source.query(batch, lanes[0].head, lanes[0].row * stride + stride - 1 - step);
            // SAFETY: the rows of LANES lanes are there, `stride` queries apart; the panel has the columns.
            unsafe {
                let to = panel.as_mut_ptr().add((step * dim + at) * width);
                let apart = stride * source.position_stride * dim;
                S::transpose(first.as_ptr().add(at), apart, to, width);
            }
        }
        for (lane, &Lane { head, row, .. }) in lanes.iter().enumerate() {
            let index = row * stride + stride - 1 - step;
            if index >= queries {
                continue;
            }
            let query = source.query(batch, head, index);
            for channel in whole..dim {
                panel[(step * dim + channel) * width + lane] = query[channel];
            }
        }
    }
}
