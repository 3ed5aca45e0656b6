//! One work item: a block of query positions of the heads that share a KV head, against their key ranges.
//!
//! Many rows go through `lanes` (queries in vector lanes), few through `rows` (keys and channels in lanes). Both do the same operations in
//! the same order for every row. bfloat16 takes `lanes` for any number of rows.

use super::call::Work;
use super::chunk::Chunk;
use super::keys::{begin_even, visits_of, KeyRange, Visit};
use super::{lanes, rows};
use crate::Cpu;
use std::cell::RefCell;
use std::ops::Range;

/// A row of the item: query head and query index of the call.
pub type Query = (usize, usize);

#[derive(Default)]
pub struct Buffers {
    pub keys: Buffer,
    pub values: Buffer,
    pub queries: Buffer,
    pub scores: Buffer,
    pub output: Buffer,
    pub total: Buffer,
    pub stats: Buffer,
    pub chunks: Vec<Chunk>,
    ranges: Vec<KeyRange>,
    visits: Vec<Visit>,
    queries_of_pass: Vec<Query>,
}

thread_local! {
    /// Tiles and accumulators of this thread, kept between work items.
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// A cache line.
#[derive(Clone, Copy, Default, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Scratch memory that begins at a cache line, so that vectors do not reach over two.
#[derive(Default)]
pub struct Buffer(Vec<Line>);

impl Buffer {
    /// The first `length` elements; what was in them stays, as far as there were some.
    pub fn of(&mut self, length: usize) -> &mut [f32] {
        let lines = length.div_ceil(16);
        if self.0.len() < lines {
            self.0.resize(lines, Line::default());
        }
        &mut bytemuck::cast_slice_mut(&mut self.0)[..length]
    }
}

/// Computes every row of the item and hands it over.
pub fn attend(cpu: Cpu, work: &Work) {
    let group = work.shape.group();
    let heads = work.kv_head * group..(work.kv_head + 1) * group;
    BUFFERS.with_borrow_mut(|buffers| {
        let mut index = work.first;
        let end = work.first + work.count;
        while index < end {
            let count = work.ranges.uniform(index, end - index);
            if work.ranges.shared(heads.clone()) {
                pass(cpu, work, heads.clone(), index..index + count, buffers);
            } else {
                for head in heads.clone() {
                    pass(cpu, work, head..head + 1, index..index + count, buffers);
                }
            }
            index += count;
        }
    });
}

pub fn lane_count(cpu: Cpu) -> usize {
    match cpu {
        Cpu::Avx512 => 16,
        Cpu::Avx2 => 8,
        Cpu::Neon => 4,
        Cpu::Scalar => 1,
    }
}

/// Some heads × some positions that see one list of ranges.
fn pass(cpu: Cpu, work: &Work, heads: Range<usize>, indices: Range<usize>, buffers: &mut Buffers) {
    let (first, count) = (indices.start, indices.len());
    let positions = (work.position(first), work.position(first + count - 1));
    let mut ranges = std::mem::take(&mut buffers.ranges);
    let mut visits = std::mem::take(&mut buffers.visits);
    let mut queries = std::mem::take(&mut buffers.queries_of_pass);
    work.ranges
        .of_block(work.batch, heads.start, first, count, positions, work.length_k, &mut ranges);
    visits_of(&ranges, &mut visits);
    if work.shape.bf16 {
        begin_even(&mut visits);
    }
    if let Some(segments) = work.segments() {
        visits.retain(|visit| segments.contains(&visit.segment()));
    }
    queries.clear();
    let lanes = lane_count(cpu);
    // A vector of lanes is one head at positions that follow each other, and a chunk of vectors reaches to about the same keys.
    for index in indices.clone().step_by(lanes) {
        let run = index..indices.end.min(index + lanes);
        queries.extend(heads.clone().flat_map(|head| run.clone().map(move |index| (head, index))));
    }
    let whole = work.shape.dim.is_multiple_of(lanes) && work.shape.value_dim.is_multiple_of(lanes);
    if lanes > 1 && whole && !work.shape.bf16 && queries.len() <= lanes / 2 {
        for chunk in queries.chunks(rows::MOST_ROWS) {
            rows::run(cpu, work, &visits, chunk, buffers);
        }
    } else {
        lanes::run(cpu, work, &visits, &queries, buffers);
    }
    buffers.ranges = ranges;
    buffers.visits = visits;
    buffers.queries_of_pass = queries;
}
