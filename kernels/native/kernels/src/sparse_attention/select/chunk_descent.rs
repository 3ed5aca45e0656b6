//! sparse_attention_chunk_descent — tree search for the best key blocks. Contract: packages/sparse-attention/src/select/chunk-descent.ts.
//!
//! One row of queries at a time: its queries in lanes, the keys of candidates gathered into a tile. The first part of a node begins with the block
//! that scored the node, so only the other part is scored anew. Operations 2·keep·(1 + log(n/keep))·blockK·queries·D a row.

use super::product::products;
use super::source::{Places, Source};
use super::HIDDEN;
use crate::call::{Call, DType};
use crate::pool::Disjoint;
use crate::simd::Simd;
use crate::{ensure, simd_dispatch, KernelError};

const OP: &str = "chunk-descent";
/// Vectors of queries that go through the keys together.
const VECTORS: usize = 2;
/// Keys that are gathered at a time, where blocks are not larger.
const TILE: usize = 64;

struct Job<'a> {
    source: Source<'a>,
    keep: usize,
    block_q: usize,
    block_k: usize,
    stride_q: usize,
    rows: usize,
    words: usize,
}

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let places = Places {
        q: 0,
        table: 2,
        lengths: 3,
        kv_map: 4,
        layout: 4,
        length_k: 5,
        keys_per_row: 1,
    };
    let source = Source::new(OP, call, call.input(1)?, &places)?;
    ensure!(source.dim == source.keys.dim, "{OP}: q and k differ in the head dim");
    let [keep, block_q, block_k, stride_q] = [0, 1, 2, 3].map(|index| call.attr_usize(index));
    let (keep, block_q, block_k, stride_q) = (keep?, block_q?, block_k?, stride_q?);
    ensure!(
        keep > 0 && block_q > 0 && block_k > 0 && stride_q > 0,
        "{OP}: keep, blockQ, blockK and strideQ must be positive"
    );
    let job = Job {
        rows: source.length_q.div_ceil(block_q),
        words: source.keys.capacity.div_ceil(block_k).div_ceil(32),
        source,
        keep,
        block_q,
        block_k,
        stride_q,
    };
    let (pool, cpu) = (call.pool, call.cpu);
    let bits = call.output(0)?;
    let total = job.source.batch * job.source.heads * job.rows;
    ensure!(
        bits.dtype == DType::U32 && bits.shape == [job.source.batch, job.source.heads, job.rows, job.words],
        "{OP}: bits are {:?}",
        bits.shape
    );
    let bits = bits.elements::<u32>()?;
    bits.fill(0);
    let bits = Disjoint::new(bits);
    // The last rows first: they look at the most keys.
    pool.run(total, &|index| {
        let (row, above) = (job.rows - 1 - index / (total / job.rows), index % (total / job.rows));
        // SAFETY: every job has its own row.
        let bits = unsafe { bits.part((above * job.rows + row) * job.words, job.words) };
        let (job, at) = (&job, (above / job.source.heads, above % job.source.heads, row));
        simd_dispatch!(cpu, search(job: &Job, at: (usize, usize, usize), bits: &mut [u32]));
    });
    Ok(())
}

/// Blocks start … end.
#[derive(Clone, Copy)]
struct Node {
    start: usize,
    end: usize,
    /// Score of its first block, where that is known.
    score: Option<f32>,
}

/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn search<S: Simd>(job: &Job, (batch, head, row): (usize, usize, usize), bits: &mut [u32]) {
    let source = &job.source;
    let (queries, _) = source.lengths[batch];
    let (first, end) = (row * job.block_q, ((row + 1) * job.block_q).min(queries));
    if first >= end {
        return;
    }
    let length = source.visible(batch, end - 1);
    let blocks = length.div_ceil(job.block_k);
    let mut nodes: Vec<Node> = (0..job.keep.min(blocks))
        .map(|index| {
            // With fewer blocks than nodes, every block is one.
            let count = job.keep.min(blocks);
            Node {
                start: index * blocks / count,
                end: (index + 1) * blocks / count,
                score: None,
            }
        })
        .collect();
    if nodes.iter().any(|node| node.end - node.start > 1) {
        // SAFETY: the caller's promise.
        let mut scorer = unsafe { Scorer::new::<S>(job, (batch, head), first..end, length) };
        let (mut parts, mut order) = (Vec::new(), Vec::new());
        while nodes.iter().any(|node| node.end - node.start > 1) {
            parts.clear();
            for &Node { start, end, score } in &nodes {
                let middle = start + (end - start).div_ceil(2);
                parts.push(Node {
                    start,
                    end: middle,
                    score,
                });
                if middle < end {
                    parts.push(Node {
                        start: middle,
                        end,
                        score: None,
                    });
                }
            }
            // SAFETY: the caller's promise.
            unsafe { scorer.score::<S>(&mut parts) };
            keep_best(&parts, job.keep, &mut order, &mut nodes);
        }
    }
    for node in nodes {
        bits[node.start / 32] |= 1 << (node.start % 32);
    }
}

/// The parts with the highest scores, ties to the lower one, in order.
fn keep_best(parts: &[Node], keep: usize, order: &mut Vec<u64>, nodes: &mut Vec<Node>) {
    nodes.clear();
    if parts.len() <= keep {
        nodes.extend_from_slice(parts);
        return;
    }
    order.clear();
    order.extend(parts.iter().enumerate().map(|(index, part)| {
        // + 0 makes one of the two zeros.
        let bits = (part.score.unwrap_or(HIDDEN) + 0.0).to_bits();
        let rising = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        // Ascending order is descending scores, then ascending places.
        u64::from(!rising) << 32 | index as u64
    }));
    order.select_nth_unstable(keep - 1);
    order.truncate(keep);
    order.iter_mut().for_each(|entry| *entry &= u64::from(u32::MAX));
    order.sort_unstable();
    nodes.extend(order.iter().map(|&index| parts[index as usize]));
}

/// Scores blocks of keys by some queries of a head.
struct Scorer<'a> {
    job: &'a Job<'a>,
    batch: usize,
    kv_head: usize,
    length: usize,
    /// Of VECTORS vectors each: [D][lanes].
    panels: Vec<Vec<f32>>,
    keys: Vec<f32>,
    scores: Vec<f32>,
}

impl<'a> Scorer<'a> {
    /// # Safety
    /// As for [`Simd`].
    #[inline(always)]
    unsafe fn new<S: Simd>(
        job: &'a Job,
        (batch, head): (usize, usize),
        queries: std::ops::Range<usize>,
        length: usize,
    ) -> Self {
        let source = &job.source;
        let width = VECTORS * S::LANES;
        let indices: Vec<usize> = queries.step_by(job.stride_q).collect();
        let panels = indices
            .chunks(width)
            .map(|indices| {
                let mut panel = vec![0f32; source.dim * width];
                for lane in 0..width {
                    // Lanes without a query repeat the last one.
                    let query = source.query(batch, head, indices[lane.min(indices.len() - 1)]);
                    for (channel, &value) in query.iter().enumerate() {
                        panel[channel * width + lane] = value;
                    }
                }
                panel
            })
            .collect();
        let keys = TILE.next_multiple_of(job.block_k);
        Self {
            job,
            batch,
            kv_head: source.groups.iter().position(|group| group.contains(&head)).unwrap_or(0),
            length,
            panels,
            keys: vec![0.0; keys * source.dim],
            scores: vec![0.0; keys * width],
        }
    }

    /// Scores the parts that have no score.
    ///
    /// # Safety
    /// As for [`Simd`].
    #[inline(always)]
    unsafe fn score<S: Simd>(&mut self, parts: &mut [Node]) {
        let (source, block) = (&self.job.source, self.job.block_k);
        let dim = source.dim;
        let together = TILE.div_ceil(block);
        let missing: Vec<usize> = (0..parts.len()).filter(|&index| parts[index].score.is_none()).collect();
        for parts_of_tile in missing.chunks(together) {
            let mut count = 0;
            for &index in parts_of_tile {
                let from = parts[index].start * block;
                let keys = block.min(self.length - from);
                // SAFETY: the caller's promise.
                unsafe {
                    let out = &mut self.keys[count * dim..];
                    source.keys.load::<S>(self.batch, self.kv_head, from, keys, dim, out);
                }
                // Blocks that end early leave what was there, and nobody reads its scores.
                count += block;
            }
            for &index in parts_of_tile {
                parts[index].score = Some(HIDDEN);
            }
            for panel in &self.panels {
                let (keys, scores) = (self.keys.as_ptr(), self.scores.as_mut_ptr());
                // SAFETY: the tile has `count` rows, panel and scores VECTORS vectors a row.
                unsafe {
                    match S::LANES {
                        16 => products::<S, VECTORS, 8>(keys, count, dim, panel.as_ptr(), scores),
                        _ => products::<S, VECTORS, 4>(keys, count, dim, panel.as_ptr(), scores),
                    }
                }
                for (at, &index) in parts_of_tile.iter().enumerate() {
                    let keys = block.min(self.length - parts[index].start * block);
                    // SAFETY: the rows of the part's keys.
                    let best = unsafe { largest::<S>(&self.scores, at * block, keys) };
                    if parts[index].score.is_some_and(|before| best > before) {
                        parts[index].score = Some(best);
                    }
                }
            }
        }
    }
}

/// The largest of `count` rows of VECTORS vectors.
///
/// # Safety
/// As for [`Simd`]; scores have the rows.
#[inline(always)]
unsafe fn largest<S: Simd>(scores: &[f32], first: usize, count: usize) -> f32 {
    let mut each = [HIDDEN; 16];
    // SAFETY: the caller's promise.
    unsafe {
        let mut best = S::splat(HIDDEN);
        for vector in 0..count * VECTORS {
            let at = (first * VECTORS + vector) * S::LANES;
            best = S::max(S::load(scores.as_ptr().add(at)), best);
        }
        S::store(each.as_mut_ptr(), best);
    }
    each.iter()
        .fold(HIDDEN, |best, &score| if score > best { score } else { best })
}
