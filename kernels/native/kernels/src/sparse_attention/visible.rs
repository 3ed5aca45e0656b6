//! Which keys the queries of a call see.

use super::list::{Cut, List, Rule};
use super::plan::{Plan, Segments};
use crate::{ensure, KernelError};

pub enum Visible<'a> {
    Dense { causal: bool, window: usize },
    Plan(Box<Plan<'a>>),
    Indices(Indices<'a>),
}

/// A list of keys per (batch, mask head, query): indices [B, Hm, Lq, T], −1 where there is none.
pub struct Indices<'a> {
    indices: &'a [i32],
    mask_heads: usize,
    length_q: usize,
    slots: usize,
    /// Query head → mask head.
    head_map: Vec<usize>,
}

impl<'a> Indices<'a> {
    /// Checks that every list ascends below `capacity`.
    pub fn new(
        indices: &'a [i32],
        (mask_heads, length_q, slots): (usize, usize, usize),
        head_map: Vec<usize>,
        capacity: usize,
    ) -> Result<Self, KernelError> {
        for list in indices.chunks_exact(slots.max(1)) {
            let mut last = -1;
            for &index in list.iter().filter(|&&index| index >= 0) {
                ensure!(
                    index > last && (index as usize) < capacity,
                    "gather-attention: index {index} behind {last} is not ascending within {capacity} keys"
                );
                last = index;
            }
        }
        Ok(Self {
            indices,
            mask_heads,
            length_q,
            slots,
            head_map,
        })
    }

    fn row(&self, batch: usize, head: usize, index: usize) -> usize {
        (batch * self.mask_heads + self.head_map[head]) * self.length_q + index
    }

    fn list(&self, row: usize, list: &mut List) {
        let mut keys = self.indices[row * self.slots..(row + 1) * self.slots]
            .iter()
            .filter(|&&index| index >= 0)
            .map(|&index| index as usize)
            .peekable();
        while let Some(start) = keys.next() {
            let mut end = start + 1;
            while keys.next_if_eq(&end).is_some() {
                end += 1;
            }
            list.push(start, end, Rule::default(), false);
        }
    }
}

/// Lengths and positions of each batch element.
pub struct Lengths {
    pub q: Vec<usize>,
    pub k: Vec<usize>,
    /// Position of query 0.
    pub offset: Vec<i64>,
}

/// What names the list of a query of one head.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Name {
    All,
    Segments(Segments),
    Row(usize),
}

impl Visible<'_> {
    pub fn causal(&self) -> bool {
        match self {
            Self::Dense { causal, .. } => *causal,
            Self::Plan(plan) => plan.causal,
            Self::Indices(_) => false,
        }
    }

    pub fn window(&self) -> usize {
        match self {
            Self::Dense { window, .. } => *window,
            Self::Plan(plan) => plan.window,
            Self::Indices(_) => 0,
        }
    }

    /// Where query `index` of a head finds its keys.
    pub fn name(&self, batch: usize, head: usize, index: usize) -> Name {
        match self {
            Self::Dense { .. } => Name::All,
            Self::Plan(plan) => Name::Segments(plan.name(batch, head, index)),
            Self::Indices(indices) => Name::Row(indices.row(batch, head, index)),
        }
    }

    /// Queries from `first` on, at most `count`, whose lists have the same names for each of the heads.
    pub fn uniform(&self, batch: usize, heads: &[usize], first: usize, count: usize) -> usize {
        match self {
            Self::Dense { .. } => count,
            Self::Indices(_) => 1,
            Self::Plan(plan) => {
                let block = |first: usize| plan.block_q - first % plan.block_q;
                let mut found = block(first);
                // Bits are those of one row block.
                while found < count && !plan.has_bits() {
                    let same = |&head: &usize| plan.name(batch, head, first) == plan.name(batch, head, first + found);
                    if !heads.iter().all(same) {
                        break;
                    }
                    found += block(first + found);
                }
                found.min(count)
            }
        }
    }

    /// The keys of a list, for queries at positions `from … to`.
    pub fn list(&self, name: Name, (from, to): (i64, i64), length_k: usize, (cut, even): (Cut, bool), list: &mut List) {
        match (self, name) {
            (Self::Plan(plan), Name::Segments(name)) => {
                list.clear(0, cut, plan.special());
                plan.list(name, list);
            }
            (Self::Indices(indices), Name::Row(row)) => {
                list.clear(0, cut, false);
                indices.list(row, list);
            }
            _ => {
                let end = if self.causal() {
                    (to + 1).clamp(0, length_k as i64) as usize
                } else {
                    length_k
                };
                let start = match self.window() {
                    0 => 0,
                    window => (from + 1 - window as i64).clamp(0, end as i64) as usize,
                };
                // Pairs of keys begin at even positions; the key before the window is one that nobody sees.
                let start = if even { start - start % 2 } else { start };
                list.clear(start, cut, false);
                let rule = Rule {
                    tested: true,
                    ..Rule::default()
                };
                list.push(start, end, rule, false);
            }
        }
    }

    /// Most keys of a list: what segments are counted by.
    pub fn longest(&self, lengths: &Lengths) -> usize {
        match self {
            Self::Dense { .. } => lengths.k.iter().copied().max().unwrap_or(0),
            Self::Plan(plan) => plan.keys.iter().copied().max().unwrap_or(0),
            Self::Indices(indices) => indices.slots,
        }
    }
}
