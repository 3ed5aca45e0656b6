//! sparse_attention_select_row — the best entries of every row, exactly. Contract: packages/sparse-attention/src/select/select-row.ts.
//!
//! Entries are words of 64 bits, the score in descending order above and the index below, so that partitions around an element keep the order's first
//! entries without sorting; the sum that topP asks for narrows the part that is partitioned. O(entries) of a list, lists in parallel.

use super::args::{axes, block, lengths, limit, Lengths};
use crate::call::{Call, TensorRef};
use crate::pool::Disjoint;
use crate::{ensure, KernelError};

/// Entries of lists that one job takes.
const ENTRIES: usize = 1 << 11;

struct Limits {
    top_k: Option<usize>,
    top_share: f32,
    top_p: f32,
    threshold: f32,
    min: usize,
    max: Option<usize>,
    sinks: usize,
    local: usize,
}

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let op = "select-row";
    let scores = call.input(0)?;
    let [batch, heads, rows, columns] = axes(op, "scores", &scores)?;
    let limits = Limits {
        top_k: limit(call, 0)?,
        top_share: call.attr(1)? as f32,
        top_p: call.attr(2)? as f32,
        threshold: call.attr(3)? as f32,
        min: call.attr_usize(4)?,
        max: limit(call, 5)?,
        sinks: call.attr_usize(6)?,
        local: call.attr_usize(7)?,
    };
    let whole_head = call.attr_usize(8)? == 1;
    let (block_q, block_k) = (block(call, 9)?, block(call, 10)?);
    ensure!(
        rows.saturating_mul(columns) <= 1 << 30,
        "{op}: {rows} × {columns} scores of a head are more than a list holds"
    );
    let all = Lengths {
        queries: rows * block_q,
        keys: columns * block_k,
    };
    let lengths = lengths(op, call.optional(3), batch, all)?;
    let lists = if whole_head { 1 } else { rows };
    let budget = per_list(op, "budget", call.optional(1), [batch, heads, lists])?;
    let least = per_list(op, "least", call.optional(2), [batch, heads, lists])?;
    let (scores, words) = (scores.f32s()?, columns.div_ceil(32));
    let pool = call.pool;
    let [bits, counts] = call.outputs else {
        return Err(KernelError(format!("{op}: bits and counts are missing")));
    };
    let (bits, counts) = (bits.elements::<u32>()?, counts.i32s()?);
    ensure!(
        bits.len() == batch * heads * rows * words && counts.len() == batch * heads * rows,
        "{op}: bits or counts do not fit"
    );
    let total = batch * heads * lists;
    if total == 0 || rows == 0 {
        return Ok(());
    }
    let members = rows / lists;
    let step = (ENTRIES / (members * columns).max(1)).clamp(1, total);
    let (bits, counts) = (Disjoint::new(bits), Disjoint::new(counts));
    pool.run(total.div_ceil(step), &|job| {
        let mut list = List::default();
        for index in job * step..total.min((job + 1) * step) {
            let (first, length) = (index * members, lengths[index / (heads * lists)]);
            let scores = &scores[first * columns..(first + members) * columns];
            list.collect(scores, columns, first % rows, length, (block_q, block_k), &limits);
            list.choose(scores, &limits, budget.map(|b| b.of(index)), least.map(|l| l.of(index)));
            // SAFETY: lists have rows of their own.
            let (bits, counts) = unsafe { (bits.part(first * words, members * words), counts.part(first, members)) };
            list.write(columns, words, bits, counts);
        }
    });
    Ok(())
}

/// Numbers f32 [batch, heads, lists or 1].
#[derive(Clone, Copy)]
struct PerList<'a> {
    values: &'a [f32],
    own: usize,
    lists: usize,
}

impl PerList<'_> {
    /// The number of a list, as a count.
    fn of(&self, list: usize) -> usize {
        // Negative numbers and NaN give 0.
        self.values[list / self.lists * self.own + if self.own == 1 { 0 } else { list % self.lists }] as usize
    }
}

fn per_list<'a>(
    op: &str,
    name: &str,
    given: Option<TensorRef<'a>>,
    [batch, heads, lists]: [usize; 3],
) -> Result<Option<PerList<'a>>, KernelError> {
    let Some(given) = given else { return Ok(None) };
    let [b, h, own] = axes(op, name, &given)?;
    ensure!(
        b == batch && h == heads && (own == 1 || own == lists),
        "{op}: {name} is {:?} for {lists} lists",
        given.shape
    );
    let values = given.f32s()?;
    Ok(Some(PerList { values, own, lists }))
}

/// Entries of a list that take part: forced ones in order of their index, and the others.
#[derive(Default)]
struct List {
    forced: Vec<u32>,
    others: Vec<u64>,
    /// How many of `others`, the first ones, are taken.
    taken: usize,
    key_blocks: usize,
}

/// Ascending words for descending scores: NaN last, both zeros the same.
fn word(score: f32, index: usize) -> u64 {
    let order = if score.is_nan() {
        u32::MAX
    } else {
        let bits = (score + 0.0).to_bits();
        // Ascending order of floats as words, then from above.
        !(if bits >> 31 == 1 { !bits } else { bits | 1 << 31 })
    };
    u64::from(order) << 32 | index as u64
}

fn mass(score: f32) -> f64 {
    if score > 0.0 {
        f64::from(score)
    } else {
        0.0
    }
}

impl List {
    fn collect(
        &mut self,
        scores: &[f32],
        columns: usize,
        first_row: usize,
        length: Lengths,
        (block_q, block_k): (usize, usize),
        limits: &Limits,
    ) {
        self.forced.clear();
        self.others.clear();
        self.key_blocks = 0;
        for (row, scores) in scores.chunks_exact(columns.max(1)).enumerate() {
            let visible = length.visible_blocks(first_row + row, block_q, block_k).min(columns);
            if visible > 0 {
                self.key_blocks += length.keys.div_ceil(block_k);
            }
            let sinks = limits.sinks.min(visible);
            let local = visible.saturating_sub(limits.local).max(sinks);
            let at = row * columns;
            self.forced.extend((at..at + sinks).map(|entry| entry as u32));
            self.forced.extend((at + local..at + visible).map(|entry| entry as u32));
            let between = scores[sinks..local].iter().enumerate();
            self.others
                .extend(between.map(|(index, &score)| word(score, at + sinks + index)));
        }
    }

    fn choose(&mut self, scores: &[f32], limits: &Limits, budget: Option<usize>, least: Option<usize>) {
        let forced = self.forced.len();
        let entries = forced + self.others.len();
        let mut count = entries;
        if let Some(most) = budget.or(limits.top_k) {
            count = count.min(most);
        }
        if limits.top_share < 1.0 {
            count = count.min((limits.top_share * self.key_blocks as f32) as usize);
        }
        if limits.top_p < 1.0 {
            count = count.min(self.shortest(scores, limits.top_p));
        }
        if limits.threshold > f32::NEG_INFINITY {
            let above = |&&entry: &&u64| scores[entry as u32 as usize] >= limits.threshold;
            count = count.min(forced + self.others.iter().filter(above).count());
        }
        count = count.max(limits.min).max(least.unwrap_or(0));
        count = count.min(limits.max.unwrap_or(count)).clamp(forced, entries);
        self.taken = count - forced;
        if self.taken > 0 && self.taken < self.others.len() {
            self.others.select_nth_unstable(self.taken - 1);
        }
    }

    /// Entries until the scores above 0 add up to a share of all.
    fn shortest(&mut self, scores: &[f32], share: f32) -> usize {
        let own = |entry: &u64| mass(scores[*entry as u32 as usize]);
        let masses = |entries: &[u64]| entries.iter().map(own).sum::<f64>();
        let first: f64 = self.forced.iter().map(|&entry| mass(scores[entry as usize])).sum();
        let all = first + masses(&self.others);
        // Nothing of infinity is nothing.
        let wanted = if share > 0.0 { f64::from(share) * all } else { 0.0 };
        let mut sum = 0.0;
        for (count, &entry) in self.forced.iter().enumerate() {
            if sum >= wanted {
                return count;
            }
            sum += mass(scores[entry as usize]);
        }
        if sum >= wanted {
            return self.forced.len();
        }
        // Those before `low` are not enough.
        let (mut low, mut high) = (0, self.others.len());
        while high - low > 16 {
            let middle = (low + high) / 2;
            self.others[low..high].select_nth_unstable(middle - low);
            let half = masses(&self.others[low..middle]);
            if sum + half < wanted {
                sum += half;
                low = middle;
            } else {
                high = middle;
            }
        }
        self.others[low..high].sort_unstable();
        while low < high && sum < wanted {
            sum += own(&self.others[low]);
            low += 1;
        }
        self.forced.len() + low
    }

    fn write(&self, columns: usize, words: usize, bits: &mut [u32], counts: &mut [i32]) {
        bits.fill(0);
        counts.fill(0);
        let others = self.others[..self.taken].iter().map(|&entry| entry as u32);
        for entry in self.forced.iter().copied().chain(others) {
            let (row, column) = (entry as usize / columns, entry as usize % columns);
            bits[row * words + column / 32] |= 1 << (column % 32);
            counts[row] += 1;
        }
    }
}
