//! Rows of keys where they lie: pages with a table, or one page per batch element; f32 or f16.

use super::args::axes;
use crate::call::{DType, TensorRef};
use crate::{ensure, KernelError};
use half::f16;
use half::slice::HalfFloatSliceExt;

enum Elements<'a> {
    Floats(&'a [f32]),
    Halves(&'a [f16]),
}

pub struct KeyRows<'a> {
    elements: Elements<'a>,
    table: Option<&'a [i32]>,
    pages_per_batch: usize,
    page_size: usize,
    pub heads: usize,
    pub dim: usize,
    /// Keys a batch element can have.
    pub capacity: usize,
}

impl<'a> KeyRows<'a> {
    pub fn new(op: &str, k: TensorRef<'a>, table: Option<TensorRef<'a>>, batch: usize) -> Result<Self, KernelError> {
        let [pages, heads, page_size, dim] = axes(op, "k", &k)?;
        let pages_per_batch = match &table {
            Some(table) => {
                let [own, pages] = axes(op, "table", table)?;
                ensure!(own == batch, "{op}: table is {:?} for a batch of {batch}", table.shape);
                pages
            }
            None => 1,
        };
        ensure!(
            table.is_some() || pages == batch,
            "{op}: k has {pages} pages and no table for a batch of {batch}"
        );
        let table = table.map(|table| table.i32s()).transpose()?;
        ensure!(
            table.is_none_or(|table| table.iter().all(|&page| (page as u32 as usize) < pages)),
            "{op}: the page table names a page beyond {pages}"
        );
        Ok(Self {
            elements: match k.dtype {
                DType::F16 => Elements::Halves(k.elements()?),
                _ => Elements::Floats(k.f32s()?),
            },
            table,
            pages_per_batch,
            page_size,
            heads,
            dim,
            capacity: pages_per_batch * page_size,
        })
    }

    /// Row of a key, and how many more follow it.
    fn row(&self, element: usize, head: usize, key: usize) -> (usize, usize) {
        let page = match self.table {
            Some(table) => table[element * self.pages_per_batch + key / self.page_size] as usize,
            None => element,
        };
        let within = key % self.page_size;
        ((page * self.heads + head) * self.page_size + within, self.page_size - within)
    }

    /// Keys `from … from + count` [count][D] in f32: where they lie, or in `buffer`.
    pub fn floats<'b>(&'b self, element: usize, head: usize, from: usize, count: usize, buffer: &'b mut [f32]) -> &'b [f32] {
        assert!(from + count <= self.capacity, "keys beyond the capacity");
        let dim = self.dim;
        if let (Elements::Floats(all), true) = (&self.elements, count > 0) {
            let (row, follow) = self.row(element, head, from);
            if count <= follow {
                return &all[row * dim..(row + count) * dim];
            }
        }
        let mut done = 0;
        while done < count {
            let (row, follow) = self.row(element, head, from + done);
            let some = follow.min(count - done);
            let out = &mut buffer[done * dim..(done + some) * dim];
            match &self.elements {
                Elements::Floats(all) => out.copy_from_slice(&all[row * dim..(row + some) * dim]),
                Elements::Halves(all) => all[row * dim..(row + some) * dim].convert_to_f32_slice(out),
            }
            done += some;
        }
        &buffer[..count * dim]
    }
}
