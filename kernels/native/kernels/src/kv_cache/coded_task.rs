//! Arguments of coded attention and how a call is cut into work items.

use super::layout::{Format, Layout, Pages, Side};
use crate::call::{Call, DType};
use crate::{ensure, KernelError};
use std::ops::Range;

/// Entries of a segment.
const SEGMENT: usize = 1024;
/// Query rows of a work item.
const ITEM_ROWS: usize = 48;

pub struct Task<'a> {
    pub q: &'a [f32],
    pub keys: Pages<'a>,
    pub values: Pages<'a>,
    /// Pages of every element, and how many a row of the table has room for.
    pub table: &'a [i32],
    pub width: usize,
    pub pages: Vec<usize>,
    pub batch: usize,
    pub length_q: usize,
    pub heads: usize,
    pub scale: f32,
    pub softcap: f32,
}

/// Query rows of the heads that share a key-value head: row r is head r % group, query r / group.
#[derive(Clone)]
pub struct Item {
    pub batch: usize,
    pub kv_head: usize,
    pub rows: Range<usize>,
}

impl<'a> Task<'a> {
    pub fn of(call: &Call<'_, 'a>) -> Result<Self, KernelError> {
        let [q, keys, values, table, lengths] = [0, 1, 2, 3, 4].map(|index| call.input(index));
        let (q, keys, values, table, lengths) = (q?, keys?, values?, table?, lengths?);
        ensure!(
            q.shape.len() == 4 && table.shape.len() == 2 && keys.dtype == DType::U8 && values.dtype == DType::U8,
            "coded-attention: q must have four axes, table two, and pages are u8"
        );
        let formats = (
            Format::from_index(call.attr_usize(2)?)?,
            Format::from_index(call.attr_usize(3)?)?,
        );
        let (page_size, value_dim) = (call.attr_usize(4)?, call.attr_usize(5)?);
        let keys = Pages::new(
            Layout::new(formats.0, Side::Keys, page_size, q.shape[3])?,
            keys.bytes,
            keys.shape,
        )?;
        let values = Pages::new(
            Layout::new(formats.1, Side::Values, page_size, value_dim)?,
            values.bytes,
            values.shape,
        )?;
        let (batch, heads) = (q.shape[0], q.shape[2]);
        ensure!(
            keys.heads == values.heads && keys.count == values.count && keys.heads > 0 && heads.is_multiple_of(keys.heads),
            "coded-attention: {heads} query heads do not share pages of {} and {} heads",
            keys.heads,
            values.heads
        );
        let (width, lengths) = (table.shape[1], lengths.i32s()?);
        ensure!(
            table.shape[0] == batch && lengths.len() == batch,
            "coded-attention: table {:?} and {} lengths are not for {batch} elements",
            table.shape,
            lengths.len()
        );
        let table = table.i32s()?;
        let mut pages = vec![];
        for (element, &length) in lengths.iter().enumerate() {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            ensure!(
                length.is_multiple_of(page_size) && length / page_size <= width,
                "coded-attention: length {} is not whole pages of {page_size} of the {width} in the table",
                lengths[element]
            );
            let own = &table[element * width..][..length / page_size];
            ensure!(
                own.iter().all(|&page| page >= 0 && (page as usize) < keys.count),
                "coded-attention: the table names a page that is not there"
            );
            pages.push(length / page_size);
        }
        let (scale, softcap) = (call.attr(0)? as f32, call.attr(1)? as f32);
        Ok(Self {
            q: q.f32s()?,
            keys,
            values,
            table,
            width,
            pages,
            batch,
            length_q: q.shape[1],
            heads,
            scale: if softcap > 0.0 {
                scale
            } else {
                scale * std::f32::consts::LOG2_E
            },
            softcap,
        })
    }

    pub fn group(&self) -> usize {
        self.heads / self.keys.heads
    }

    pub fn pages_per_segment(&self) -> usize {
        (SEGMENT / self.keys.layout.page_size).max(1)
    }

    pub fn items(&self) -> Vec<Item> {
        let rows = self.group() * self.length_q;
        let mut items = vec![];
        for batch in 0..self.batch {
            for kv_head in 0..self.keys.heads {
                for first in (0..rows).step_by(ITEM_ROWS) {
                    items.push(Item {
                        batch,
                        kv_head,
                        rows: first..rows.min(first + ITEM_ROWS),
                    });
                }
            }
        }
        items
    }

    /// Query head and query of a row of an item.
    pub fn place(&self, item: &Item, row: usize) -> (usize, usize) {
        let group = self.group();
        (item.kv_head * group + row % group, row / group)
    }

    pub fn lse_row(&self, (batch, head, query): (usize, usize, usize)) -> usize {
        (batch * self.heads + head) * self.length_q + query
    }
}
