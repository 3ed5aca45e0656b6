//! sparse_attention_lower_selection — bits of a selection to the packed plan of executors. Contract:
//! packages/sparse-attention/src/select/lower-selection.ts.
//!
//! Slashes of a mask head are merged once, relative to the row block. A row merges its runs of blocks, those bands and the given ranges, all ascending, and
//! copies the columns that lie in the gaps: O(runs + gaps · log columns), and what is written. Rows in parallel.

use super::args::Lengths;
use super::lower_call::Selection;
use super::runs::{merge, push, runs_of_bits, subtract, Bounds, Run};
use crate::call::Call;
use crate::pool::Disjoint;
use crate::{ensure, KernelError};

/// Row blocks of a work item.
const ROWS: usize = 64;

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let selection = Selection::new(call)?;
    let (at, words) = selection.layout()?;
    let (batch, mask_heads, rows) = (selection.lengths.len(), selection.mask_heads, selection.rows);
    let total = batch * mask_heads * rows;
    let pool = call.pool;
    let [plan, cells] = call.outputs else {
        return Err(KernelError("lower-selection: plan and cells are missing".into()));
    };
    let (plan, cells) = (plan.i32s()?, cells.f32s()?);
    ensure!(
        plan.len() == words && cells.len() == total,
        "lower-selection: the plan has {} of {words} words, cells {} of {total}",
        plan.len(),
        cells.len()
    );
    let (head, sections) = plan.split_at_mut(at[12]);
    write_head(head, &selection, &at, words);
    let sections = Disjoint::new(sections);
    let cells = Disjoint::new(cells);
    let pieces = rows.div_ceil(ROWS);
    pool.run(batch * mask_heads * pieces, &|job| {
        let (column, piece) = (job / pieces, job % pieces);
        let (element, mask_head) = (column / mask_heads, column % mask_heads);
        let mut row = Row::new(&selection, element, mask_head);
        for block in piece * ROWS..rows.min((piece + 1) * ROWS) {
            let index = column * rows + block;
            // SAFETY: every row has slots of its own in each section; the sections follow `at[12]`.
            let part = |word: usize, width: usize| unsafe { sections.part(at[word] - at[12] + index * width, width) };
            let (ranges, columns) = (part(14, 3 * selection.max_ranges), part(17, selection.max_columns));
            let found = row.write(block, ranges, columns);
            part(12, 1)[0] = (index * selection.max_ranges) as i32;
            part(13, 1)[0] = found.ranges as i32;
            part(15, 1)[0] = (index * selection.max_columns) as i32;
            part(16, 1)[0] = found.columns as i32;
            part(27, 1)[0] = found.cells as i32;
            // SAFETY: as above.
            unsafe { cells.part(index, 1)[0] = found.cells as f32 };
        }
    });
    if let Some(map) = selection.kv_map {
        plan[at[21]..at[21] + map.len()].copy_from_slice(map);
    }
    Ok(())
}

/// The header and the sections before that of the rows' first ranges.
fn write_head(head: &mut [i32], selection: &Selection, at: &[usize; 32], words: usize) {
    for (word, &at) in head.iter_mut().zip(at) {
        *word = at as i32;
    }
    let sizes = [
        selection.lengths.len(),
        selection.mask_heads,
        selection.rows,
        selection.block_q,
    ];
    head[0] = 2;
    for (word, size) in head[1..5].iter_mut().zip(sizes) {
        *word = size as i32;
    }
    head[5] = 1;
    head[6] = selection.window as i32;
    head[7] = words as i32;
    head[29] = selection.heads as i32;
    for query_head in 0..selection.heads {
        head[at[8] + query_head] = selection.shared_head(query_head, selection.heads, selection.mask_heads) as i32;
    }
    for (index, &length) in selection.lengths.iter().enumerate() {
        head[at[9] + index] = length.offset() as i32;
        head[at[10] + index] = length.queries as i32;
        head[at[11] + index] = length.keys as i32;
    }
}

struct Found {
    ranges: usize,
    columns: usize,
    cells: i64,
}

/// Everything about the rows of one mask head, and buffers.
struct Row<'a> {
    selection: &'a Selection<'a>,
    length: Lengths,
    blocks: [Option<(super::lower_call::Source<'a>, usize)>; 2],
    element: usize,
    /// Bands of the slashes, relative to the first query's position.
    bands: Vec<Run>,
    /// Columns of the group that was read last.
    columns: Vec<i32>,
    group: Option<usize>,
    mask_head: usize,
    runs: [Vec<Run>; 5],
}

impl<'a> Row<'a> {
    fn new(selection: &'a Selection<'a>, element: usize, mask_head: usize) -> Self {
        let head = |own: usize| selection.shared_head(mask_head, selection.mask_heads, own);
        let mut bands = Vec::new();
        if let Some(slashes) = &selection.slashes {
            let words = slashes.row(element, head(slashes.heads), 0);
            let bits = set_bits(words, selection.capacity.div_ceil(selection.slash_step)).take(selection.max_slashes);
            let offsets: Vec<i64> = bits.map(|bit| (bit * selection.slash_step) as i64).collect();
            for offset in offsets.into_iter().rev() {
                push(&mut bands, (-offset, selection.block_q as i64 - offset));
            }
        }
        Self {
            selection,
            length: selection.lengths[element],
            blocks: selection
                .blocks
                .map(|source| source.map(|source| (source, head(source.heads)))),
            element,
            bands,
            columns: Vec::new(),
            group: None,
            mask_head,
            runs: Default::default(),
        }
    }

    /// Writes the ranges and columns of a row block and clears the rest of their slots.
    fn write(&mut self, block: usize, ranges: &mut [i32], columns: &mut [i32]) -> Found {
        let mut found = Found {
            ranges: 0,
            columns: 0,
            cells: 0,
        };
        if let Some((first, last)) = self.length.positions(block, self.selection.block_q) {
            let bounds = Bounds {
                first,
                last,
                window: self.selection.window as i64,
            };
            self.fill(block, bounds, ranges, columns, &mut found);
        }
        ranges[3 * found.ranges..].fill(0);
        columns[found.columns..].fill(0);
        found
    }

    fn fill(&mut self, block: usize, bounds: Bounds, ranges: &mut [i32], columns: &mut [i32], found: &mut Found) {
        let selection = self.selection;
        let floor = if bounds.window > 0 {
            (bounds.first + 1 - bounds.window).max(0)
        } else {
            0
        };
        let span = (floor, (bounds.last + 1).min(selection.capacity as i64));
        self.read_columns(block);
        let [blocks, given, cuts, merged, left] = &mut self.runs;
        read_blocks(&self.blocks, self.element, block, selection.block_k, span, blocks);
        read_ranges(selection, block, bounds, given, cuts);
        merge([(blocks, 0), (&self.bands, bounds.first), (given, 0)], span, merged);
        subtract(merged, cuts, left);
        for &run in left.iter() {
            found.cells += bounds.split(run, |(start, end), flag| {
                let slot = &mut ranges[3 * found.ranges..3 * found.ranges + 3];
                slot.copy_from_slice(&[start as i32, end as i32, flag]);
                found.ranges += 1;
            });
        }
        if self.columns.is_empty() {
            return;
        }
        // What no column may lie in: the runs before they were cut, and the cuts.
        merge([(merged, 0), (cuts, 0), (&[], 0)], span, left);
        let mut from = self.columns.partition_point(|&column| i64::from(column) < span.0);
        for &(start, end) in left.iter().chain(&[(span.1, span.1)]) {
            let until = from + self.columns[from..].partition_point(|&column| i64::from(column) < start);
            let count = (until - from).min(columns.len() - found.columns);
            columns[found.columns..found.columns + count].copy_from_slice(&self.columns[from..from + count]);
            found.columns += count;
            from = until + self.columns[until..].partition_point(|&column| i64::from(column) < end);
        }
        found.cells += bounds.cells(&columns[..found.columns]);
    }

    fn read_columns(&mut self, block: usize) {
        let Some(source) = self.selection.columns else { return };
        let group = block / self.selection.rows.div_ceil(source.groups);
        if self.group == Some(group) {
            return;
        }
        self.group = Some(group);
        let head = self
            .selection
            .shared_head(self.mask_head, self.selection.mask_heads, source.heads);
        let bits = set_bits(source.row(self.element, head, group), self.selection.capacity);
        self.columns.clear();
        self.columns.extend(bits.map(|bit| bit as i32));
    }
}

fn read_blocks(
    sources: &[Option<(super::lower_call::Source, usize)>; 2],
    element: usize,
    block: usize,
    unit: usize,
    span: Run,
    runs: &mut Vec<Run>,
) {
    let row = |index: usize| {
        sources[index].map(|(source, head)| source.row(element, head, if source.groups == 1 { 0 } else { block }))
    };
    match (row(0), row(1)) {
        (Some(a), Some(b)) => runs_of_bits(a.iter().zip(b).map(|(a, b)| a | b), unit, span, runs),
        (Some(one), None) | (None, Some(one)) => runs_of_bits(one.iter().copied(), unit, span, runs),
        (None, None) => runs.clear(),
    }
}

/// The given ranges of a row, in order and merged; those that cut, apart.
fn read_ranges(selection: &Selection, block: usize, bounds: Bounds, given: &mut Vec<Run>, cuts: &mut Vec<Run>) {
    given.clear();
    cuts.clear();
    let Some(ranges) = selection.ranges else { return };
    for (index, pair) in ranges.row(block).chunks_exact(2).enumerate() {
        let (start, end) = (i64::from(pair[0]), i64::from(pair[1]));
        let run = (
            if start < 0 { bounds.first + 1 + start } else { start },
            if end <= 0 { bounds.last + 1 + end } else { end },
        );
        if run.1 > run.0 {
            let list = if index + selection.excluded < ranges.count {
                &mut *given
            } else {
                &mut *cuts
            };
            list.push(run);
        }
    }
    for list in [given, cuts] {
        list.sort_unstable();
        let sorted = std::mem::take(list);
        sorted.into_iter().for_each(|run| push(list, run));
    }
}

/// The set bits below `end`, ascending.
fn set_bits(words: &[u32], end: usize) -> impl Iterator<Item = usize> + '_ {
    let bits = words.iter().enumerate().flat_map(|(index, &word)| {
        let mut left = word;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let bit = 32 * index + left.trailing_zeros() as usize;
            left &= left - 1;
            Some(bit)
        })
    });
    bits.take_while(move |&bit| bit < end)
}
