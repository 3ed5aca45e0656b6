//! One work item: up to 16 query positions of the heads that share a KV head, against their key ranges.
//!
//! Many rows go through `lanes` (queries in vector lanes), few through `rows` (keys and channels in lanes). Both do the same operations in
//! the same order for every row.

use super::call::Work;
use super::keys::{visits_of, KeyRange, Visit};
use super::{lanes, rows};
use crate::Cpu;
use std::cell::RefCell;
use std::ops::Range;

/// A row of the item: query head and query index of the call.
pub type Query = (usize, usize);

#[derive(Default)]
pub struct Buffers {
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
    pub queries: Vec<f32>,
    pub scores: Vec<f32>,
    pub output: Vec<f32>,
    pub total: Vec<f32>,
    ranges: Vec<KeyRange>,
    visits: Vec<Visit>,
    queries_of_pass: Vec<Query>,
}

thread_local! {
    /// Tiles and accumulators of this thread, kept between work items.
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// Makes a buffer long enough; what was in it stays.
pub fn grow(buffer: &mut Vec<f32>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
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

fn lane_count(cpu: Cpu) -> usize {
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
    if let Some(segments) = work.segments() {
        visits.retain(|visit| segments.contains(&visit.segment()));
    }
    queries.clear();
    queries.extend(heads.flat_map(|head| indices.clone().map(move |index| (head, index))));
    let lanes = lane_count(cpu);
    let whole = work.shape.dim.is_multiple_of(lanes) && work.shape.value_dim.is_multiple_of(lanes);
    if lanes > 1 && whole && queries.len() <= lanes / 2 {
        for chunk in queries.chunks(rows::MOST_ROWS) {
            rows::run(cpu, work, &visits, chunk, buffers);
        }
    } else {
        // Three vectors of 16 lanes use the registers better than four: prefer them when they suffice.
        let vectors = match lanes {
            16 if queries.len() <= 48 => 3,
            8 => 2,
            _ => lanes::MOST_VECTORS,
        };
        for chunk in queries.chunks(vectors * lanes) {
            lanes::run(cpu, work, &visits, chunk, chunk.len().div_ceil(lanes), buffers);
        }
    }
    buffers.ranges = ranges;
    buffers.visits = visits;
    buffers.queries_of_pass = queries;
}
