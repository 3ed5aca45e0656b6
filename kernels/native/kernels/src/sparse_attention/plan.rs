//! Packed plans: docs/design/sparse-attention.md, packages/sparse-attention/src/plan.ts. Every offset that is used later is checked here.

use super::list::{List, Rule};
use crate::pool::Pool;
use crate::{ensure, KernelError};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Words of the header.
const HEADER: usize = 32;
const VERSION: i32 = 2;

/// Sections that rows of tokens come from: those of queries and those of keys.
#[derive(Clone, Copy)]
struct Tokens {
    queries: usize,
    keys: usize,
    queries_stride: usize,
    keys_stride: usize,
}

pub struct Plan<'a> {
    pool: &'a [i32],
    pub mask_heads: usize,
    pub rows_per_head: usize,
    pub block_q: usize,
    pub causal: bool,
    pub window: usize,
    head_map: usize,
    kv_map: usize,
    range_begin: usize,
    range_count: usize,
    ranges: usize,
    column_begin: usize,
    column_count: usize,
    columns: usize,
    bits: usize,
    column_bits: usize,
    positions: Option<Tokens>,
    segments: Option<Tokens>,
    /// Per batch element: queries, keys, position of the first query.
    pub length_q: Vec<usize>,
    pub length_k: Vec<usize>,
    pub offset: Vec<i64>,
    /// Keys of each row.
    pub keys: Vec<usize>,
}

/// What a row's segments are named by; rows with the same name see the same list.
pub type Segments = [i32; 4];

impl<'a> Plan<'a> {
    /// Reads a plan for `heads` query heads and at most `length_q` queries per element.
    pub fn read(pool: &'a [i32], batch: usize, heads: usize, length_q: usize, threads: &dyn Pool) -> Result<Self, KernelError> {
        ensure!(
            pool.len() >= HEADER && pool[0] == VERSION,
            "planned-attention: the plan has no header of version {VERSION}"
        );
        let word = |index: usize| {
            usize::try_from(pool[index]).map_err(|_| KernelError(format!("planned-attention: plan word {index} is negative")))
        };
        let (plan_batch, mask_heads, rows_per_head, block_q) = (word(1)?, word(2)?, word(3)?, word(4)?);
        ensure!(
            plan_batch == batch,
            "planned-attention: the plan is for a batch of {plan_batch}, q has {batch}"
        );
        ensure!(
            word(29)? == heads && pool[5] & !1 == 0,
            "planned-attention: the plan is for {} heads with flags {:#x}; q has {heads}, the flag that is known is 1",
            pool[29],
            pool[5]
        );
        ensure!(
            block_q > 0 && mask_heads > 0,
            "planned-attention: the plan has no rows or mask heads"
        );
        let rows = batch
            .checked_mul(mask_heads)
            .and_then(|heads| heads.checked_mul(rows_per_head))
            .filter(|&rows| rows <= pool.len())
            .ok_or_else(|| KernelError("planned-attention: the plan has fewer words than rows".into()))?;
        let section = |index: usize, length: usize| -> Result<usize, KernelError> {
            let at = word(index)?;
            ensure!(
                at.checked_add(length).is_some_and(|end| end <= pool.len()),
                "planned-attention: plan section {index} is cut off"
            );
            Ok(at)
        };
        let lengths = |index: usize, most: usize| -> Result<Vec<usize>, KernelError> {
            let at = section(index, batch)?;
            let length = |&length: &i32| usize::try_from(length).ok().filter(|&length| length <= most);
            pool[at..at + batch]
                .iter()
                .map(|word| {
                    length(word).ok_or_else(|| {
                        KernelError(format!("planned-attention: the plan has length {word}, q {length_q} queries"))
                    })
                })
                .collect()
        };
        let (queries, keys) = (lengths(10, length_q)?, lengths(11, i32::MAX as usize)?);
        let longest = queries.iter().copied().max().unwrap_or(0);
        ensure!(
            rows_per_head >= longest.div_ceil(block_q),
            "planned-attention: the plan has too few rows for {longest} queries"
        );
        let offsets = section(9, batch)?;
        let most_keys = keys.iter().copied().max().unwrap_or(0);
        let tokens = |first: usize| -> Result<Option<Tokens>, KernelError> {
            if word(first)? == 0 {
                return Ok(None);
            }
            let (keys_stride, queries_stride) = (word(26)?, word(28)?);
            ensure!(
                keys_stride >= most_keys && queries_stride >= longest,
                "planned-attention: the plan has tokens for {queries_stride} queries and {keys_stride} keys, not {longest} and {most_keys}"
            );
            Ok(Some(Tokens {
                queries: section(first, batch.saturating_mul(queries_stride))?,
                keys: section(first + 1, batch.saturating_mul(keys_stride))?,
                queries_stride,
                keys_stride,
            }))
        };
        let mut plan = Plan {
            pool,
            mask_heads,
            rows_per_head,
            block_q,
            causal: pool[5] & 1 != 0,
            window: word(6)?,
            head_map: section(8, heads)?,
            kv_map: section(21, if pool[21] == 0 { 0 } else { heads })?,
            range_begin: section(12, rows)?,
            range_count: section(13, rows)?,
            ranges: section(14, 0)?,
            column_begin: section(15, rows)?,
            column_count: section(16, rows)?,
            columns: section(17, 0)?,
            bits: section(19, 0)?,
            column_bits: section(20, 0)?,
            positions: tokens(22)?,
            segments: tokens(24)?,
            length_q: queries,
            length_k: keys,
            offset: pool[offsets..offsets + batch]
                .iter()
                .map(|&offset| i64::from(offset))
                .collect(),
            keys: vec![],
        };
        for head in 0..heads {
            let mask = pool[plan.head_map + head];
            ensure!(
                mask >= 0 && (mask as usize) < mask_heads,
                "planned-attention: head {head} maps to mask head {mask} of {mask_heads}"
            );
        }
        plan.keys = plan.check_rows(rows, threads)?;
        Ok(plan)
    }

    /// Query head → key-value head, where the plan says so.
    pub fn kv_map(&self, heads: usize) -> Option<&'a [i32]> {
        (self.kv_map > 0).then(|| &self.pool[self.kv_map..self.kv_map + heads])
    }

    /// Checks every row on the threads; returns how many keys each has.
    fn check_rows(&self, rows: usize, threads: &dyn Pool) -> Result<Vec<usize>, KernelError> {
        const ROWS: usize = 64;
        let mut keys = vec![0; rows];
        let wrong = AtomicUsize::new(usize::MAX);
        crate::pool::for_rows(threads, &mut keys, rows, ROWS, |first, keys| {
            let mut before: Option<(Segments, usize, usize)> = None;
            for (row, keys) in (first..).zip(keys) {
                let (name, length) = (self.name_of(row), self.length_of(row));
                *keys = match before {
                    // Rows that share their segments are checked once.
                    Some((same, count, checked)) if same == name && checked == length => count,
                    _ => match self.check_row(row, length) {
                        Ok(count) => count,
                        Err(_) => {
                            wrong.fetch_min(row, Ordering::Relaxed);
                            return;
                        }
                    },
                };
                before = Some((name, *keys, length));
            }
        });
        match wrong.into_inner() {
            usize::MAX => Ok(keys),
            row => Err(self
                .check_row(row, self.length_of(row))
                .err()
                .unwrap_or_else(|| KernelError("planned-attention: a row of the plan changed".into()))),
        }
    }

    fn length_of(&self, row: usize) -> usize {
        self.length_k[row / (self.mask_heads * self.rows_per_head)]
    }

    fn name_of(&self, row: usize) -> Segments {
        let at = |section: usize| self.pool[section + row];
        [
            at(self.range_begin),
            at(self.range_count),
            at(self.column_begin),
            at(self.column_count),
        ]
    }

    /// Words of row bits.
    fn words(&self) -> usize {
        self.block_q.div_ceil(32)
    }

    fn check_row(&self, row: usize, length: usize) -> Result<usize, KernelError> {
        let part = |begin: i32, count: i32, from: usize, width: usize| -> Option<&[i32]> {
            let (begin, count) = (usize::try_from(begin).ok()?, usize::try_from(count).ok()?);
            let from = begin.checked_mul(width)?.checked_add(from)?;
            self.pool.get(from..from.checked_add(count.checked_mul(width)?)?)
        };
        let name = self.name_of(row);
        let (Some(ranges), Some(columns)) = (
            part(name[0], name[1], self.ranges, 3),
            part(name[2], name[3], self.columns, 1),
        ) else {
            return Err(KernelError(format!(
                "planned-attention: ranges or columns of row {row} are cut off"
            )));
        };
        let (mut last, mut keys) = (0, 0);
        for range in ranges.as_chunks::<3>().0 {
            let [start, end, flag] = *range;
            ensure!(
                start >= last && end >= start && end as usize <= length && flag >= 0,
                "planned-attention: range {start} … {end} (flag {flag}) of row {row} is not ascending within {length} keys"
            );
            if flag >= 2 {
                let count = if flag & 1 == 0 { 1 } else { (end - start) as usize };
                self.check_bits(row, self.bits, (flag - 2) as usize >> 1, count)?;
            }
            keys += (end - start) as usize;
            last = end;
        }
        let ascending = columns
            .iter()
            .zip(columns.iter().skip(1))
            .fold(true, |all, (a, b)| all & (a < b));
        let inside =
            columns.first().is_none_or(|&first| first >= 0) && columns.last().is_none_or(|&last| (last as usize) < length);
        ensure!(
            ascending && inside,
            "planned-attention: columns of row {row} are not ascending within {length} keys"
        );
        if self.column_bits > 0 && !columns.is_empty() {
            self.check_bits(row, self.column_bits, name[2] as usize * self.words(), columns.len())?;
        }
        Ok(keys + columns.len())
    }

    /// Row bits of `count` keys from word `from` of a section.
    fn check_bits(&self, row: usize, section: usize, from: usize, count: usize) -> Result<(), KernelError> {
        let end = section + from + count * self.words();
        ensure!(
            section > 0 && end <= self.pool.len(),
            "planned-attention: bits of row {row} are cut off"
        );
        Ok(())
    }

    /// The row of the plan that query `index` of a head belongs to.
    pub fn row(&self, batch: usize, head: usize, index: usize) -> usize {
        let mask = self.pool[self.head_map + head] as usize;
        (batch * self.mask_heads + mask) * self.rows_per_head + index / self.block_q
    }

    /// What the list of query `index` of a head is named by.
    pub fn name(&self, batch: usize, head: usize, index: usize) -> Segments {
        self.name_of(self.row(batch, head, index))
    }

    /// True when rows are told apart by their place in the row block.
    pub fn has_bits(&self) -> bool {
        self.bits > 0 || self.column_bits > 0
    }

    /// True when more than causality and window decide who sees a key.
    pub fn special(&self) -> bool {
        self.has_bits() || self.positions.is_some() || self.segments.is_some()
    }

    /// Ranges and columns of a row, merged in ascending order.
    pub fn list(&self, name: Segments, list: &mut List) {
        let [begin, count, column_begin, column_count] = name.map(|word| word as usize);
        let tokens = self.positions.is_some() || self.segments.is_some();
        let columns = &self.pool[self.columns + column_begin..][..column_count];
        let words = self.words();
        let rule = |index: usize| Rule {
            tested: true,
            bits: if self.column_bits == 0 {
                0
            } else {
                self.column_bits + (column_begin + index) * words
            },
            stride: 0,
        };
        let special = tokens || self.column_bits > 0;
        let push_columns = |columns: &[i32], first: usize, list: &mut List| {
            if !self.special() {
                return list.push_columns(columns);
            }
            for (index, &column) in (first..).zip(columns) {
                list.push(column as usize, column as usize + 1, rule(index), special);
            }
        };
        let mut next = 0;
        for range in self.pool[self.ranges + 3 * begin..][..3 * count].as_chunks::<3>().0 {
            let [start, end, flag] = *range;
            let before = columns[next..].iter().take_while(|&&column| column < start).count();
            push_columns(&columns[next..next + before], next, list);
            next += before;
            // A column inside a range is a mistake of the plan's maker; counting it twice would be worse than dropping it.
            next += columns[next..].iter().take_while(|&&column| column < end).count();
            let rule = Rule {
                tested: flag > 0,
                bits: if flag < 2 { 0 } else { self.bits + ((flag - 2) as usize >> 1) },
                stride: if flag >= 2 && flag & 1 == 1 { words } else { 0 },
            };
            list.push(start as usize, end as usize, rule, flag >= 2 || (tokens && flag == 1));
        }
        push_columns(&columns[next..], next, list);
    }

    /// Whether query `index` sees `key`, `within` keys behind the start of the piece whose rule it is.
    pub fn sees(&self, batch: usize, index: usize, key: usize, within: usize, rule: Rule) -> bool {
        if rule.bits > 0 {
            let bit = index % self.block_q;
            let word = self.pool[rule.bits + within * rule.stride + bit / 32];
            if word >> (bit % 32) & 1 == 0 {
                return false;
            }
        }
        if !rule.tested {
            return true;
        }
        let of = |tokens: Tokens| {
            (
                i64::from(self.pool[tokens.queries + batch * tokens.queries_stride + index]),
                i64::from(self.pool[tokens.keys + batch * tokens.keys_stride + key]),
            )
        };
        let (p, j) = self.positions.map_or((self.offset[batch] + index as i64, key as i64), of);
        let alike = self.segments.map(of).is_none_or(|(query, key)| query == key);
        alike && (!self.causal || j <= p) && (self.window == 0 || p - j < self.window as i64)
    }
}
