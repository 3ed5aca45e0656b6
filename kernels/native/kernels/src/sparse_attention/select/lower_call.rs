//! Arguments of lower-selection, and where the sections of its plan lie. Contract: packages/sparse-attention/src/select/lowered-layout.ts.

use super::args::{axes, block, lengths, limit, Lengths};
use crate::call::{Call, TensorRef};
use crate::{ensure, KernelError};

const OP: &str = "lower-selection";
const HEADER: usize = 32;

/// Bits u32 [batch, heads, groups, words].
#[derive(Clone, Copy)]
pub struct Source<'a> {
    words: &'a [u32],
    pub heads: usize,
    pub groups: usize,
    width: usize,
}

impl<'a> Source<'a> {
    pub fn row(&self, batch: usize, head: usize, group: usize) -> &'a [u32] {
        let at = ((batch * self.heads + head) * self.groups + group) * self.width;
        &self.words[at..at + self.width]
    }
}

/// Pairs i32 [rows or 1, count, 2].
#[derive(Clone, Copy)]
pub struct Ranges<'a> {
    items: &'a [i32],
    one: bool,
    pub count: usize,
}

impl<'a> Ranges<'a> {
    pub fn row(&self, block: usize) -> &'a [i32] {
        let at = if self.one { 0 } else { block } * self.count * 2;
        &self.items[at..at + self.count * 2]
    }
}

pub struct Selection<'a> {
    pub blocks: [Option<Source<'a>>; 2],
    pub columns: Option<Source<'a>>,
    pub slashes: Option<Source<'a>>,
    pub ranges: Option<Ranges<'a>>,
    pub kv_map: Option<&'a [i32]>,
    pub lengths: Vec<Lengths>,
    pub heads: usize,
    pub mask_heads: usize,
    pub rows: usize,
    pub block_q: usize,
    pub block_k: usize,
    pub capacity: usize,
    pub slash_step: usize,
    pub max_slashes: usize,
    pub excluded: usize,
    pub window: usize,
    pub max_ranges: usize,
    pub max_columns: usize,
}

impl<'a> Selection<'a> {
    pub fn new(call: &Call<'_, 'a>) -> Result<Self, KernelError> {
        let (length_q, heads, capacity) = (call.attr_usize(0)?, call.attr_usize(1)?, call.attr_usize(4)?);
        ensure!(
            length_q <= i32::MAX as usize && capacity <= i32::MAX as usize && (1..=1 << 20).contains(&heads),
            "{OP}: {length_q} queries of {heads} heads and {capacity} keys are too many"
        );
        let (block_q, block_k, slash_step) = (block(call, 2)?, block(call, 3)?, block(call, 5)?);
        let [max_slashes, most_columns] = [limit(call, 6)?, limit(call, 7)?].map(|most| most.unwrap_or(usize::MAX));
        let (excluded, window) = (call.attr_usize(8)?, call.attr_usize(9)?);
        let rows = length_q.div_ceil(block_q);
        let given: Vec<_> = (0..4).filter_map(|index| call.optional(index)).collect();
        let axis = |source: &TensorRef, axis: usize| source.shape.get(axis).copied().unwrap_or(0);
        let lengths_given = call.optional(5);
        let batch = given.first().or(lengths_given.as_ref()).map_or(1, |source| axis(source, 0));
        let mask_heads = given.iter().map(|source| axis(source, 1)).max().unwrap_or(1).max(1);
        let (blocks, offsets) = (capacity.div_ceil(block_k), capacity.div_ceil(slash_step));
        let source = |index: usize, groups: &[usize], bits: usize| source(call, index, batch, groups, bits);
        let (blocks_bits, more_bits) = (source(0, &[rows, 1], blocks)?, source(1, &[rows, 1], blocks)?);
        let (columns, slashes) = (source(2, &[], capacity)?, source(3, &[1], offsets)?);
        let ranges = call.optional(4).map(|ranges| given_ranges(&ranges, rows)).transpose()?;
        let range_count = ranges.map_or(0, |ranges| ranges.count);
        ensure!(
            excluded <= range_count,
            "{OP}: excluded is {excluded} of {range_count} ranges"
        );
        let runs = if blocks_bits.is_some() || more_bits.is_some() {
            blocks.div_ceil(2)
        } else {
            0
        };
        let bands = if slashes.is_some() { offsets.min(max_slashes) } else { 0 };
        let bands = bands.min(capacity.div_ceil(block_q + 1) + 2);
        let selection = Self {
            blocks: [blocks_bits, more_bits],
            columns,
            slashes,
            ranges,
            kv_map: call.optional(6).map(|map| map.i32s()).transpose()?,
            lengths: lengths(
                OP,
                lengths_given,
                batch,
                Lengths {
                    queries: length_q,
                    keys: capacity,
                },
            )?,
            heads,
            mask_heads,
            rows,
            block_q,
            block_k,
            capacity,
            slash_step,
            max_slashes,
            excluded,
            window: window.min(i32::MAX as usize),
            max_ranges: (runs + bands + range_count).min(capacity.div_ceil(2)) + 2,
            max_columns: if columns.is_some() { capacity.min(most_columns) } else { 0 },
        };
        selection.check_heads()?;
        Ok(selection)
    }

    fn check_heads(&self) -> Result<(), KernelError> {
        let (heads, mask_heads) = (self.heads, self.mask_heads);
        if let Some(map) = self.kv_map {
            ensure!(map.len() == heads, "{OP}: kvMap has {} of {heads} heads", map.len());
        }
        if mask_heads != heads {
            self.check_shared(heads, mask_heads)?;
        }
        for source in [self.blocks[0], self.blocks[1], self.columns, self.slashes]
            .into_iter()
            .flatten()
        {
            if source.heads != mask_heads && source.heads != 1 {
                ensure!(
                    mask_heads == heads,
                    "{OP}: bits of {} heads do not fit {mask_heads} mask heads",
                    source.heads
                );
                self.check_shared(heads, source.heads)?;
            }
        }
        Ok(())
    }

    fn check_shared(&self, heads: usize, own: usize) -> Result<(), KernelError> {
        if own == 1 {
            return Ok(());
        }
        match self.kv_map {
            Some(map) => ensure!(
                map.iter().all(|&head| (head as u32 as usize) < own),
                "{OP}: kvMap names a head beyond {own}"
            ),
            None => ensure!(own > 0 && heads.is_multiple_of(own), "{OP}: {heads} heads do not share {own}"),
        }
        Ok(())
    }

    /// Head of a source with `own` heads that one of `heads` heads reads.
    pub fn shared_head(&self, head: usize, heads: usize, own: usize) -> usize {
        match self.kv_map {
            _ if own == heads => head,
            _ if own == 1 => 0,
            Some(map) => map[head] as usize,
            None => head * own / heads,
        }
    }

    /// Offsets of the sections, by header word; and the words of the plan.
    pub fn layout(&self) -> Result<([usize; HEADER], usize), KernelError> {
        let batch = self.lengths.len();
        let total = batch * self.mask_heads * self.rows;
        let heads = if self.kv_map.is_some() { self.heads } else { 0 };
        let mut at = [0; HEADER];
        let mut next = HEADER;
        let small = [
            (8, self.heads),
            (9, batch),
            (10, batch),
            (11, batch),
            (12, total),
            (13, total),
            (15, total),
            (16, total),
        ];
        let rest = [
            (21, heads),
            (27, total),
            (14, 3 * self.max_ranges * total),
            (17, self.max_columns * total),
        ];
        for (word, length) in small.into_iter().chain(rest) {
            at[word] = if word == 21 && heads == 0 { 0 } else { next };
            next += length;
            ensure!(next <= i32::MAX as usize, "{OP}: the plan is too large");
        }
        Ok((at, next))
    }
}

fn source<'a>(
    call: &Call<'_, 'a>,
    index: usize,
    batch: usize,
    groups: &[usize],
    bits: usize,
) -> Result<Option<Source<'a>>, KernelError> {
    let Some(source) = call.optional(index) else { return Ok(None) };
    let [b, heads, found, width] = axes(OP, "bits", &source)?;
    ensure!(
        b == batch
            && width == bits.div_ceil(32)
            && if groups.is_empty() {
                found > 0
            } else {
                groups.contains(&found)
            },
        "{OP}: input {index} is {:?}, which does not fit a batch of {batch} and {bits} bits",
        source.shape
    );
    Ok(Some(Source {
        words: source.elements()?,
        heads,
        groups: found,
        width,
    }))
}

fn given_ranges<'a>(ranges: &TensorRef<'a>, rows: usize) -> Result<Ranges<'a>, KernelError> {
    let [own, count, two] = axes(OP, "ranges", ranges)?;
    ensure!(
        (own == rows || own == 1) && two == 2,
        "{OP}: ranges is {:?} for {rows} rows",
        ranges.shape
    );
    Ok(Ranges {
        items: ranges.i32s()?,
        one: own == 1,
        count,
    })
}
