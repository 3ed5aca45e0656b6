//! kv_cache_coded_attention — exact attention over whole pages of codes. Contract: packages/kv-cache/src/ops/coded-attention.ts.
//!
//! q f32 [B,Lq,Hq,D]; pages u8 [pages,Hk,bytes]; o as q with Dv; lse f32 [B,Hq,Lq]. Bytes: the pages of an element once per work item, a
//! page ahead of the arithmetic. A work item is (element, kv head, some query rows); where there are few, an item is cut along its pages into
//! pieces of some segments, which are summed one by one in any case, so that the bits do not depend on the number of threads.

use super::coded_rows::{attend, most_rows, scratch_of, Page, Rows, Scratch};
use super::coded_task::{Item, Task};
use super::layout::GROUP;
use crate::call::Call;
use crate::pool::Disjoint;
use crate::sparse_attention::block::Buffer;
use crate::sparse_attention::partial::{Row, NONE};
use crate::sparse_attention::shape::natural;
use crate::{ensure, Cpu, KernelError};
use std::cell::RefCell;
use std::ops::Range;

/// Where results go: o and lse, or parts [row of lse][segment][2 + Dv].
struct Results<'a> {
    o: Disjoint<f32>,
    lse: Disjoint<f32>,
    parts: Option<&'a Disjoint<f32>>,
    segments: usize,
}

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let task = Task::of(call)?;
    let (pool, cpu) = (call.pool, call.cpu);
    let [o, lse] = call.outputs else {
        return Err(KernelError("coded-attention: o and lse are missing".into()));
    };
    let (o, lse) = (o.f32s()?, lse.f32s()?);
    let (rows, value_dim) = (task.batch * task.length_q * task.heads, task.values.layout.dim);
    ensure!(
        o.len() == rows * value_dim && lse.len() == rows,
        "coded-attention: o or lse does not fit q"
    );
    if rows == 0 {
        return Ok(());
    }
    let items = task.items();
    let longest = task.pages.iter().copied().max().unwrap_or(0);
    let segments = longest.div_ceil(task.pages_per_segment()).max(1);
    let split = segments > 1 && pool.threads() > 1 && items.len() < 4 * pool.threads();
    let pieces = if split {
        segments.min((4 * pool.threads()).div_ceil(items.len()))
    } else {
        1
    };
    let width = value_dim + 2;
    let mut parts = vec![0f32; if split { rows * segments * width } else { 0 }];
    let partials = Disjoint::new(&mut parts);
    let results = Results {
        o: Disjoint::new(o),
        lse: Disjoint::new(lse),
        parts: split.then_some(&partials),
        segments,
    };
    pool.run(items.len() * pieces, &|job| {
        let piece = job % pieces;
        let range = piece * segments / pieces..(piece + 1) * segments / pieces;
        SCRATCH.with_borrow_mut(|memory| {
            work(cpu, &task, &items[job / pieces], range, &results, memory);
        });
    });
    if split {
        let parts = &parts;
        pool.run(task.batch * task.heads, &|job| {
            let mut values = vec![0f32; value_dim];
            for query in 0..task.length_q {
                values.fill(0.0);
                let mut row = Row {
                    largest: NONE,
                    sum: 0.0,
                    values: &mut values,
                };
                let at = (job * task.length_q + query) * segments;
                for part in parts[at * width..(at + segments) * width].chunks_exact(width) {
                    row.merge(part[0], part[1], &part[2..]);
                }
                let (largest, sum) = (row.largest, row.sum);
                results.store(&task, (job / task.heads, job % task.heads, query), (largest, sum), &values);
            }
        });
    }
    Ok(())
}

impl Results<'_> {
    /// Writes a finished row; `sum` = 0 means that it saw no entry.
    fn store(&self, task: &Task, at: (usize, usize, usize), (largest, sum): (f32, f32), values: &[f32]) {
        let (batch, head, query) = at;
        let value_dim = task.values.layout.dim;
        let row = (batch * task.length_q + query) * task.heads + head;
        // SAFETY: a row belongs to one job.
        let (o, lse) = unsafe { (self.o.part(row * value_dim, value_dim), self.lse.part(task.lse_row(at), 1)) };
        if sum == 0.0 {
            o.fill(0.0);
            lse[0] = f32::NEG_INFINITY;
            return;
        }
        let inverse = 1.0 / sum;
        for (out, &value) in o.iter_mut().zip(values) {
            *out = value * inverse;
        }
        lse[0] = natural(largest, sum);
    }
}

/// What a work item needs, kept between them.
#[derive(Default)]
struct Memory {
    queries: Buffer,
    scores: Buffer,
    alpha: Buffer,
    factors: Buffer,
    start: Buffer,
    output: Buffer,
    total: Buffer,
    /// Per row: maximum and sum of the segment, then of all segments.
    stats: Buffer,
}

thread_local! {
    static SCRATCH: RefCell<Memory> = RefCell::default();
}

/// Some query rows of an item at a time, a page after the other.
fn work(cpu: Cpu, task: &Task, item: &Item, segments: Range<usize>, results: &Results, memory: &mut Memory) {
    let most = most_rows(cpu);
    let (keys, values) = (&task.keys.layout, &task.values.layout);
    let (count, dim, width) = (item.rows.len(), keys.padded_rows, values.groups * GROUP);
    let sizes = [scratch_of(keys), scratch_of(values)];
    let queries = memory.queries.of(count * dim);
    let scores = memory.scores.of(most * keys.page_size);
    let alpha = memory.alpha.of(most);
    let factors = memory.factors.of(most * sizes[0].0.max(sizes[1].0));
    let start = memory.start.of(most * sizes[0].1.max(sizes[1].1));
    let output = memory.output.of(count * width);
    let total = memory.total.of(count * width);
    let (own, all) = memory.stats.of(4 * count).split_at_mut(2 * count);
    let ((largest, sums), (tops, totals)) = (own.split_at_mut(count), all.split_at_mut(count));
    queries.fill(0.0);
    for (row, out) in item.rows.clone().zip(queries.chunks_exact_mut(dim)) {
        let (head, query) = task.place(item, row);
        let from = ((item.batch * task.length_q + query) * task.heads + head) * keys.dim;
        let q = &task.q[from..from + keys.dim];
        for (out, &value) in out.iter_mut().zip(q) {
            *out = value * task.scale;
        }
        // Products with codes and with zeros may be infinities of opposite signs.
        if !q.iter().all(|value| value.is_finite()) {
            out.fill(f32::NAN);
        }
    }
    total.fill(0.0);
    tops.fill(NONE);
    totals.fill(0.0);
    let pages = &task.table[item.batch * task.width..][..task.pages[item.batch]];
    let last = pages.len().min(segments.end * task.pages_per_segment());
    for segment in segments {
        output.fill(0.0);
        largest.fill(NONE);
        sums.fill(0.0);
        let first = (segment * task.pages_per_segment()).min(last);
        for at in first..last.min(first + task.pages_per_segment()) {
            let next = pages[at + 1..last].first().map(|&next| next as usize);
            let ahead_keys = next.map(|next| task.keys.page(next, item.kv_head));
            let ahead_values = next.map(|next| task.values.page(next, item.kv_head));
            let page = pages[at] as usize;
            for first in (0..count).step_by(most) {
                let some = first..count.min(first + most);
                // The first rows bring in the next page for all.
                let ahead = if first == 0 {
                    (ahead_keys.as_slice(), ahead_values.as_slice())
                } else {
                    (&[][..], &[][..])
                };
                let keys = Page {
                    layout: keys,
                    bytes: task.keys.page(page, item.kv_head),
                    ahead: ahead.0,
                };
                let values = Page {
                    layout: values,
                    bytes: task.values.page(page, item.kv_head),
                    ahead: ahead.1,
                };
                let mut rows = Rows {
                    count: some.len(),
                    queries: &queries[some.start * dim..some.end * dim],
                    largest: &mut largest[some.clone()],
                    sums: &mut sums[some.clone()],
                    output: &mut output[some.start * width..some.end * width],
                };
                let mut scratch = Scratch {
                    scores: &mut *scores,
                    alpha: &mut *alpha,
                    factors: &mut *factors,
                    start: &mut *start,
                };
                attend(cpu, keys, values, task.softcap, &mut rows, &mut scratch);
            }
        }
        for (index, row) in item.rows.clone().enumerate() {
            let (head, query) = task.place(item, row);
            let values = &output[index * width..][..values.dim];
            if let Some(parts) = results.parts {
                let size = values.len() + 2;
                let at = task.lse_row((item.batch, head, query)) * results.segments + segment;
                // SAFETY: (row, segment) belongs to this job alone.
                let part = unsafe { parts.part(at * size, size) };
                (part[0], part[1]) = (largest[index], sums[index]);
                part[2..].copy_from_slice(values);
                continue;
            }
            let mut running = Row {
                largest: tops[index],
                sum: totals[index],
                values: &mut total[index * width..][..values.len()],
            };
            running.merge(largest[index], sums[index], values);
            (tops[index], totals[index]) = (running.largest, running.sum);
        }
    }
    if results.parts.is_some() {
        return;
    }
    for (index, row) in item.rows.clone().enumerate() {
        let (head, query) = task.place(item, row);
        let values = &total[index * width..][..values.dim];
        results.store(task, (item.batch, head, query), (tops[index], totals[index]), values);
    }
}
