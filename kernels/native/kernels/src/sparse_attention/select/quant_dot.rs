//! sparse_attention_quant_dot — low-bit estimates of scores, block by block. Contract: packages/sparse-attention/src/select/quant-dot.ts.
//!
//! Queries in lanes, four codes each; keys are centred, quantised and summed a tile at a time by every item, so that nothing of the size of the
//! keys is stored. What depends on the query alone (its correction and its limit) is added behind the maximum over keys.
//! Operations 2·cells·D on bytes, four at a time, and some twenty on f32 a key and item.

use super::dots::{dots, Dots};
use super::quantize::{quantize, Mean};
use super::source::{Places, Source};
use super::HIDDEN;
use crate::call::Call;
use crate::pool::{Disjoint, Pool};
use crate::{ensure, simd_dispatch, with_blocks, Cpu, KernelError};

const OP: &str = "quant-dot";
/// Lanes of a work item, where there are enough.
const LANES: usize = 144;
/// Lanes that go through the keys at once, however large blocks are: what they keep is as long as there are columns.
const MOST_LANES: usize = 1024;
/// Keys that are quantised together.
const TILE: usize = 64;

struct Job<'a> {
    source: Source<'a>,
    limit: &'a [f32],
    scale: f32,
    levels: f32,
    block_q: usize,
    block_k: usize,
    rows: usize,
    columns: usize,
    /// [B, Hq, D] and [B, Hk, D].
    mean_q: Vec<f32>,
    mean_k: Vec<f32>,
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
        table: 3,
        lengths: 4,
        kv_map: 5,
        layout: 4,
        length_k: 5,
        keys_per_row: 1,
    };
    let source = Source::new(OP, call, call.input(1)?, &places)?;
    ensure!(source.dim == source.keys.dim, "{OP}: q and k differ in the head dim");
    let limit = call.input(2)?;
    ensure!(
        limit.shape == [source.batch, source.heads, source.length_q],
        "{OP}: limit is {:?}",
        limit.shape
    );
    let (bits, block_q, block_k) = (call.attr_usize(1)?, call.attr_usize(2)?, call.attr_usize(3)?);
    ensure!(
        (bits == 4 || bits == 8) && block_q > 0 && block_k > 0,
        "{OP}: {bits} bits, blocks of {block_q} and {block_k}"
    );
    let (pool, cpu) = (call.pool, call.cpu);
    let job = Job {
        limit: limit.f32s()?,
        scale: call.attr(0)? as f32,
        levels: if bits == 4 { 7.0 } else { 127.0 },
        block_q,
        block_k,
        rows: source.length_q.div_ceil(block_q),
        columns: source.keys.capacity.div_ceil(block_k),
        mean_q: means_of_queries(&source, pool),
        mean_k: means_of_keys(&source, pool, cpu),
        source,
    };
    let y = call.output(0)?;
    ensure!(
        y.shape == [job.source.batch, job.source.heads, job.rows, job.columns],
        "{OP}: y is {:?}",
        y.shape
    );
    let y = y.f32s()?;
    y.fill(HIDDEN);
    let items = items(&job);
    let y = Disjoint::new(y);
    pool.run(items.len(), &|index| {
        let (job, item, y) = (&job, &items[index], &y);
        simd_dispatch!(cpu, estimate(job: &Job, item: &Item, y: &Disjoint<f32>));
    });
    Ok(())
}

fn means_of_queries(source: &Source, pool: &dyn Pool) -> Vec<f32> {
    let dim = source.dim;
    let mut means = vec![0f32; source.batch * source.heads * dim];
    let parts = Disjoint::new(&mut means);
    pool.run(source.batch * source.heads, &|job| {
        let (batch, head) = (job / source.heads, job % source.heads);
        let mut mean = Mean::new(dim);
        for index in 0..source.lengths[batch].0 {
            mean.add(source.query(batch, head, index));
        }
        // SAFETY: every job has its own part.
        mean.write(unsafe { parts.part(job * dim, dim) });
    });
    means
}

fn means_of_keys(source: &Source, pool: &dyn Pool, cpu: Cpu) -> Vec<f32> {
    let dim = source.dim;
    let mut means = vec![0f32; source.batch * source.kv_heads * dim];
    let parts = Disjoint::new(&mut means);
    pool.run(source.batch * source.kv_heads, &|job| {
        // SAFETY: every job has its own part.
        let out = unsafe { parts.part(job * dim, dim) };
        simd_dispatch!(cpu, mean_of_keys(source: &Source, job: usize, out: &mut [f32]));
    });
    means
}

/// # Safety
/// As for [`Dots`].
#[inline(always)]
unsafe fn mean_of_keys<S: Dots>(source: &Source, job: usize, out: &mut [f32]) {
    let (batch, head) = (job / source.kv_heads, job % source.kv_heads);
    let (_, length) = source.lengths[batch];
    let mut mean = Mean::new(source.dim);
    let mut keys = vec![0f32; TILE * source.dim];
    for from in (0..length).step_by(TILE) {
        let count = TILE.min(length - from);
        // SAFETY: the caller's promise.
        unsafe { source.keys.load::<S>(batch, head, from, count, source.dim, &mut keys) };
        for key in 0..count {
            mean.add(&keys[key * source.dim..][..source.dim]);
        }
    }
    mean.write(out);
}

/// The last rows first: they see the most.
fn items(job: &Job) -> Vec<Item> {
    let mut items = Vec::new();
    for (batch, &(queries, _)) in job.source.lengths.iter().enumerate() {
        let rows = queries.div_ceil(job.block_q);
        for (kv_head, group) in job.source.groups.iter().enumerate() {
            let heads = group.len().min((LANES / job.block_q).max(1)).max(1);
            let blocks = (LANES / (job.block_q * heads)).max(1);
            for head in (0..group.len()).step_by(heads) {
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

/// Keys of a tile, quantised.
struct Tile {
    rows: Vec<f32>,
    centred: Vec<f32>,
    /// [TILE][4 · quads].
    codes: Vec<i8>,
    steps: [f32; TILE],
    totals: [i32; TILE],
    /// mean(q) · k̃ of each head of the item: [TILE][heads].
    corrections: Vec<f32>,
}

/// A vector of lanes: queries of one head that follow each other.
#[derive(Clone, Copy)]
struct Vector {
    /// Among the heads of the item.
    head: usize,
    first: usize,
    count: usize,
}

/// Vectors that go through the keys together.
struct Pass {
    vectors: Vec<Vector>,
    /// [quads][lanes][4].
    panel: Vec<i8>,
    /// [lanes].
    steps: Vec<f32>,
    /// [columns][lanes]: the largest estimate, without what depends on the query alone.
    best: Vec<f32>,
}

/// # Safety
/// As for [`Dots`]; no other job writes the item's rows of y.
#[inline(always)]
unsafe fn estimate<S: Dots>(job: &Job, item: &Item, y: &Disjoint<f32>) {
    // SAFETY: the caller's promise.
    unsafe { with_blocks!(S, estimate_blocks(job, item, y)) }
}

/// # Safety
/// As for [`estimate`].
#[inline(always)]
unsafe fn estimate_blocks<S: Dots, const NV: usize, const KU: usize>(job: &Job, item: &Item, y: &Disjoint<f32>) {
    let source = &job.source;
    let heads = &source.groups[item.kv_head][item.heads.clone()];
    let (queries, _) = source.lengths[item.batch];
    let (first, end) = (item.blocks.start * job.block_q, (item.blocks.end * job.block_q).min(queries));
    let length = source.visible(item.batch, end - 1);
    let quads = source.dim.div_ceil(4);
    let mut vectors = Vec::new();
    for head in 0..heads.len() {
        for first in (first..end).step_by(S::LANES) {
            let count = S::LANES.min(end - first);
            vectors.push(Vector { head, first, count });
        }
    }
    let mut tile = Tile {
        rows: vec![0.0; TILE * source.dim],
        centred: vec![0.0; source.dim],
        codes: vec![0; TILE * 4 * quads],
        steps: [0.0; TILE],
        totals: [0; TILE],
        corrections: vec![0.0; TILE * heads.len()],
    };
    let columns = length.div_ceil(job.block_k);
    let width = NV * S::LANES;
    let mut scores = vec![0f32; TILE * width];
    for vectors in vectors.chunks(MOST_LANES / S::LANES) {
        let mut passes: Vec<Pass> = Vec::new();
        for vectors in vectors.chunks(NV) {
            // SAFETY: the caller's promise.
            passes.push(unsafe { Pass::new::<S>(job, item, heads, vectors, width, columns) });
        }
        for from in (0..length).step_by(TILE) {
            let count = TILE.min(length - from);
            // SAFETY: the caller's promise; buffers as made here.
            unsafe {
                tile.fill::<S>(job, item, heads, from, count);
                for pass in &mut passes {
                    dots::<S, NV, KU>(&tile.codes, &tile.totals[..count], quads, &pass.panel, &mut scores);
                    pass.take::<S>(job, item.batch, &tile, heads.len(), from, count, &scores, width);
                }
            }
        }
        for pass in &passes {
            pass.store(job, item, heads, width, S::LANES, y);
        }
    }
}

impl Tile {
    /// # Safety
    /// As for [`Dots`].
    #[inline(always)]
    unsafe fn fill<S: Dots>(&mut self, job: &Job, item: &Item, heads: &[usize], from: usize, count: usize) {
        let source = &job.source;
        let (dim, quads) = (source.dim, source.dim.div_ceil(4));
        let mean = &job.mean_k[(item.batch * source.kv_heads + item.kv_head) * dim..][..dim];
        // SAFETY: the caller's promise.
        unsafe {
            source
                .keys
                .load::<S>(item.batch, item.kv_head, from, count, dim, &mut self.rows)
        };
        for key in 0..count {
            let codes = &mut self.codes[key * 4 * quads..][..4 * quads];
            let row = &self.rows[key * dim..][..dim];
            // SAFETY: the caller's promise.
            self.steps[key] = unsafe { quantize::<S>(row, mean, job.levels, &mut self.centred, codes) };
            self.totals[key] = codes.iter().map(|&code| i32::from(code)).sum();
            for (index, &head) in heads.iter().enumerate() {
                let mean = &job.mean_q[(item.batch * source.heads + head) * dim..][..dim];
                // SAFETY: the caller's promise.
                self.corrections[key * heads.len() + index] = unsafe { dot::<S>(mean, &self.centred) };
            }
        }
    }
}

impl Pass {
    /// # Safety
    /// As for [`Dots`].
    #[inline(always)]
    unsafe fn new<S: Dots>(job: &Job, item: &Item, heads: &[usize], vectors: &[Vector], width: usize, columns: usize) -> Self {
        let source = &job.source;
        let (dim, quads) = (source.dim, source.dim.div_ceil(4));
        let mut pass = Self {
            vectors: vectors.to_vec(),
            panel: vec![0; quads * width * 4],
            steps: vec![0.0; width],
            best: vec![f32::NEG_INFINITY; columns * width],
        };
        let (mut centred, mut codes) = (vec![0f32; dim], vec![0i8; 4 * quads]);
        for (at, vector) in vectors.iter().enumerate() {
            let head = heads[vector.head];
            let mean = &job.mean_q[(item.batch * source.heads + head) * dim..][..dim];
            for within in 0..vector.count {
                let lane = at * S::LANES + within;
                let row = source.query(item.batch, head, vector.first + within);
                // SAFETY: the caller's promise.
                pass.steps[lane] = unsafe { quantize::<S>(row, mean, job.levels, &mut centred, &mut codes) };
                for (quad, codes) in codes.chunks_exact(4).enumerate() {
                    for (place, &code) in codes.iter().enumerate() {
                        pass.panel[4 * (quad * width + lane) + place] = (i32::from(code) + S::OFFSET) as i8;
                    }
                }
            }
        }
        pass
    }

    /// Takes the integer products of a tile.
    ///
    /// # Safety
    /// As for [`Dots`]; scores [count][width].
    #[inline(always)]
    unsafe fn take<S: Dots>(
        &mut self,
        job: &Job,
        batch: usize,
        tile: &Tile,
        heads: usize,
        from: usize,
        count: usize,
        scores: &[f32],
        width: usize,
    ) {
        let source = &job.source;
        for (at, vector) in self.vectors.iter().enumerate() {
            let seen: [usize; 16] = std::array::from_fn(|lane| {
                if lane < vector.count {
                    source.visible(batch, vector.first + lane)
                } else {
                    usize::MAX
                }
            });
            let open = seen[..S::LANES].iter().all(|&seen| seen >= from + count);
            // SAFETY: keys below `count`, lanes of the vector.
            unsafe {
                let step = S::load(self.steps.as_ptr().add(at * S::LANES));
                for key in 0..count {
                    let column = (from + key) / job.block_k;
                    let best = self.best.as_mut_ptr().add(column * width + at * S::LANES);
                    let product = S::load(scores.as_ptr().add(key * width + at * S::LANES));
                    let correction = S::splat(tile.corrections[key * heads + vector.head]);
                    let score = S::fma(S::mul(product, S::splat(tile.steps[key])), step, correction);
                    let before = S::load(best);
                    let after = S::max(score, before);
                    let bits = if open {
                        u32::MAX
                    } else {
                        let lanes = seen[..S::LANES].iter().enumerate();
                        lanes.fold(0, |bits, (lane, &seen)| bits | u32::from(seen > from + key) << lane)
                    };
                    S::store(best, if open { after } else { S::select(bits, after, before) });
                }
            }
        }
    }

    fn store(&self, job: &Job, item: &Item, heads: &[usize], width: usize, lanes: usize, y: &Disjoint<f32>) {
        let source = &job.source;
        let mean = &job.mean_k[(item.batch * source.kv_heads + item.kv_head) * source.dim..][..source.dim];
        for (at, vector) in self.vectors.iter().enumerate() {
            let head = heads[vector.head];
            for within in 0..vector.count {
                let index = vector.first + within;
                let query = source.query(item.batch, head, index);
                let offset: f32 = query.iter().zip(mean).map(|(q, k)| q * k).sum();
                let limit = job.limit[(item.batch * source.heads + head) * source.length_q + index];
                let row = ((item.batch * source.heads + head) * job.rows + index / job.block_q) * job.columns;
                // SAFETY: the item owns the row blocks of its lanes.
                let y = unsafe { y.part(row, job.columns) };
                let columns = source.visible(item.batch, index).div_ceil(job.block_k);
                for (column, y) in y.iter_mut().enumerate().take(columns) {
                    let above = job.scale * (self.best[column * width + at * lanes + within] + offset) - limit;
                    if above.is_finite() && above > *y {
                        *y = above;
                    }
                }
            }
        }
    }
}

/// Σ a·b.
///
/// # Safety
/// As for [`Dots`]; `b` is as long as `a`.
#[inline(always)]
unsafe fn dot<S: Dots>(a: &[f32], b: &[f32]) -> f32 {
    let whole = a.len() / S::LANES * S::LANES;
    let mut each = [0f32; 16];
    // SAFETY: vectors below `whole`.
    unsafe {
        let mut sum = S::splat(0.0);
        for at in (0..whole).step_by(S::LANES) {
            sum = S::fma(S::load(a.as_ptr().add(at)), S::load(b.as_ptr().add(at)), sum);
        }
        S::store(each.as_mut_ptr(), sum);
    }
    let rest: f32 = a[whole..].iter().zip(&b[whole..]).map(|(a, b)| a * b).sum();
    each[..S::LANES].iter().sum::<f32>() + rest
}
