//! One work item: a block of query positions of the heads that share a KV head, against their key ranges.
//!
//! Many rows go through `lanes` (queries in vector lanes), few through `rows` (keys and channels in lanes). Both do the same operations in
//! the same order for every row. bfloat16, N:M softmax and plans with bits, positions or segments take `lanes` for any number of rows.

use super::chunk::Chunk;
use super::list::List;
use super::visible::{Name, Visible};
use super::work::Work;
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
    list: List,
    queries_of_pass: Vec<Query>,
    heads: Vec<usize>,
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
    BUFFERS.with_borrow_mut(|buffers| {
        let (mut index, end) = (work.first, work.first + work.count);
        while index < end {
            let visible = &work.task.visible;
            let count = visible.uniform(work.batch, work.heads(), index, end - index);
            let name = |head: usize| visible.name(work.batch, head, index);
            let mut heads = std::mem::take(&mut buffers.heads);
            for (at, &first) in work.heads().iter().enumerate() {
                // Heads that see the same keys share what is brought in for one of them.
                if work.heads()[..at].iter().any(|&head| name(head) == name(first)) {
                    continue;
                }
                heads.clear();
                heads.extend(work.heads()[at..].iter().filter(|&&head| name(head) == name(first)));
                pass(cpu, work, name(first), &heads, index..index + count, buffers);
            }
            buffers.heads = heads;
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

/// Some heads × some positions that see one list of keys.
fn pass(cpu: Cpu, work: &Work, name: Name, heads: &[usize], indices: Range<usize>, buffers: &mut Buffers) {
    let (task, shape) = (work.task, work.shape);
    let mut list = std::mem::take(&mut buffers.list);
    let mut queries = std::mem::take(&mut buffers.queries_of_pass);
    let positions = (work.position(indices.start), work.position(indices.end - 1));
    task.visible
        .list(name, positions, work.length_k(), (work.cut(), shape.bf16), &mut list);
    if let Some(segments) = work.segments() {
        list.visits.retain(|visit| segments.contains(&visit.segment()));
    }
    queries.clear();
    let lanes = lane_count(cpu);
    // A vector of lanes is one head at positions that follow each other, and a chunk of vectors reaches to about the same keys.
    for index in indices.clone().step_by(lanes) {
        let run = index..indices.end.min(index + lanes);
        queries.extend(heads.iter().flat_map(|&head| run.clone().map(move |index| (head, index))));
    }
    let whole = shape.dim.is_multiple_of(lanes) && shape.value_dim.is_multiple_of(lanes);
    let plain = match &task.visible {
        Visible::Plan(plan) => !plan.special(),
        _ => true,
    };
    if lanes > 1 && whole && plain && !shape.bf16 && !shape.stats && shape.most.is_none() && queries.len() <= lanes / 2 {
        for chunk in queries.chunks(rows::MOST_ROWS) {
            rows::run(cpu, work, &list, chunk, buffers);
        }
    } else {
        lanes::run(cpu, work, &list, &queries, buffers);
    }
    buffers.list = list;
    buffers.queries_of_pass = queries;
}
