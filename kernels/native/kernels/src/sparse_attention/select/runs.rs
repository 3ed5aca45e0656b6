//! Runs of keys: half-open intervals, ascending and apart.

/// Keys `start … end`.
pub type Run = (i64, i64);

/// Adds a run that does not begin before those there; one that touches the last one lengthens it.
pub fn push(runs: &mut Vec<Run>, (start, end): Run) {
    if end <= start {
        return;
    }
    match runs.last_mut() {
        Some(last) if start <= last.1 => last.1 = last.1.max(end),
        _ => runs.push((start, end)),
    }
}

/// The set bits of words, `unit` keys each, as runs within the bounds.
pub fn runs_of_bits(words: impl Iterator<Item = u32>, unit: usize, (floor, limit): Run, runs: &mut Vec<Run>) {
    runs.clear();
    for (index, word) in words.enumerate() {
        let mut left = word;
        while left != 0 {
            let from = left.trailing_zeros();
            let count = (left >> from).trailing_ones();
            left &= u32::MAX.checked_shl(from + count).unwrap_or(0);
            let start = (32 * index + from as usize) * unit;
            if start as i64 >= limit {
                return;
            }
            push(
                runs,
                ((start as i64).max(floor), ((start + count as usize * unit) as i64).min(limit)),
            );
        }
    }
}

/// The union of lists, each moved by its own distance and cut to the bounds.
pub fn merge(lists: [(&[Run], i64); 3], (floor, limit): Run, merged: &mut Vec<Run>) {
    merged.clear();
    let mut next = lists.map(|(runs, moved)| runs.partition_point(|run| run.1 + moved <= floor));
    loop {
        let head = |index: usize| {
            let (runs, moved) = lists[index];
            runs.get(next[index]).map(|run| (run.0 + moved, run.1 + moved, index))
        };
        let Some((start, end, index)) = (0..3).filter_map(head).min() else {
            return;
        };
        if start >= limit {
            return;
        }
        next[index] += 1;
        push(merged, (start.max(floor), end.min(limit)));
    }
}

/// What of `runs` is outside of `cuts`.
pub fn subtract(runs: &[Run], cuts: &[Run], left: &mut Vec<Run>) {
    left.clear();
    let mut first = 0;
    for &(start, end) in runs {
        let mut start = start;
        while first < cuts.len() && cuts[first].1 <= start {
            first += 1;
        }
        for &(from, to) in &cuts[first..] {
            if from >= end {
                break;
            }
            push(left, (start, from));
            start = to;
        }
        push(left, (start, end));
    }
}

/// Positions of the first and last query of a row block, and the window of each (0: none).
#[derive(Clone, Copy)]
pub struct Bounds {
    pub first: i64,
    pub last: i64,
    pub window: i64,
}

impl Bounds {
    /// The keys [x, y) that every query of the block sees.
    fn clear(self) -> Run {
        let from = if self.window > 0 {
            self.last + 1 - self.window
        } else {
            i64::MIN
        };
        (from, self.first + 1)
    }

    /// Queries that see a key.
    fn seen_by(self, key: i64) -> i64 {
        let last = if self.window > 0 {
            self.last.min(key + self.window - 1)
        } else {
            self.last
        };
        (last - self.first.max(key) + 1).max(0)
    }

    /// Visible cells of ascending keys.
    pub fn cells(self, keys: &[i32]) -> i64 {
        let (from, to) = self.clear();
        let clear = keys.partition_point(|&key| i64::from(key) < from);
        let end = keys.partition_point(|&key| i64::from(key) < to).max(clear);
        let tested = |keys: &[i32]| keys.iter().map(|&key| self.seen_by(key.into())).sum::<i64>();
        tested(&keys[..clear]) + (end - clear) as i64 * (self.last - self.first + 1) + tested(&keys[end..])
    }

    /// The parts (start, end, flag) of a run, of which those that need no test have flag 0; and its visible cells.
    pub fn split(self, (start, end): Run, mut write: impl FnMut(Run, i32)) -> i64 {
        let (from, to) = self.clear();
        let clear_start = start.max(from).min(end);
        let clear_end = end.min(to).max(clear_start);
        let tested = |from: i64, to: i64| (from..to).map(|key| self.seen_by(key)).sum::<i64>();
        if clear_start == clear_end {
            write((start, end), 1);
            return tested(start, end);
        }
        for (part, flag) in [
            ((start, clear_start), 1),
            ((clear_start, clear_end), 0),
            ((clear_end, end), 1),
        ] {
            if part.1 > part.0 {
                write(part, flag);
            }
        }
        tested(start, clear_start) + (clear_end - clear_start) * (self.last - self.first + 1) + tested(clear_end, end)
    }
}
