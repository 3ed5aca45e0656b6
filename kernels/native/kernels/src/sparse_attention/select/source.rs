//! Where the queries and keys of a selection kernel lie: either layout of q, paged keys, lengths of batch elements, heads that share keys.

use crate::call::{Call, DType, TensorRef};
use crate::simd::Simd;
use crate::sparse_attention::keys::widen;
use crate::{ensure, KernelError};

/// Rows [pages, heads, P, D] f32 or f16, bounds bf16 too, in the order of a page table.
pub struct Pages<'a> {
    bytes: &'a [u8],
    pub dtype: DType,
    table: Option<&'a [i32]>,
    pages_per_batch: usize,
    page_size: usize,
    /// log2 of the page size, where there is one.
    page_shift: Option<u32>,
    heads: usize,
    pub dim: usize,
    /// Rows that a batch element can have.
    pub capacity: usize,
}

impl<'a> Pages<'a> {
    pub fn new(op: &str, rows: TensorRef<'a>, table: Option<TensorRef<'a>>, batch: usize) -> Result<Self, KernelError> {
        ensure!(rows.shape.len() == 4, "{op}: pages must have four axes");
        ensure!(
            matches!(rows.dtype, DType::F32 | DType::F16 | DType::BF16),
            "{op}: pages are {:?}, they must be F32, F16 or BF16",
            rows.dtype
        );
        let [pages, heads, page_size, dim] = [rows.shape[0], rows.shape[1], rows.shape[2], rows.shape[3]];
        let shape = table.map(|table| table.shape);
        let table = table.map(|table| table.i32s()).transpose()?;
        let pages_per_batch = match shape {
            Some(&[rows, count]) => {
                ensure!(rows == batch, "{op}: the page table is for a batch of {rows}, q has {batch}");
                count
            }
            Some(shape) => return Err(KernelError(format!("{op}: the page table is {shape:?}"))),
            None => {
                ensure!(pages == batch, "{op}: {pages} pages and no table for a batch of {batch}");
                1
            }
        };
        ensure!(
            table.is_none_or(|table| table.iter().all(|&page| page >= 0 && (page as usize) < pages)),
            "{op}: the page table names a page beyond {pages}"
        );
        Ok(Self {
            bytes: rows.bytes,
            dtype: rows.dtype,
            table,
            pages_per_batch,
            page_size,
            page_shift: page_size.is_power_of_two().then(|| page_size.trailing_zeros()),
            heads,
            dim,
            capacity: pages_per_batch * page_size,
        })
    }

    /// Index of the row of `position` among all rows.
    fn row(&self, batch: usize, head: usize, position: usize) -> usize {
        let (page, entry) = match self.table {
            Some(table) => {
                let (page, entry) = self.place(position);
                (table[batch * self.pages_per_batch + page] as usize, entry)
            }
            None => (batch, position),
        };
        (page * self.heads + head) * self.page_size + entry
    }

    /// Page of the element and place in the page of a position.
    #[inline(always)]
    fn place(&self, position: usize) -> (usize, usize) {
        match self.page_shift {
            Some(shift) => (position >> shift, position & (self.page_size - 1)),
            None => (position / self.page_size, position % self.page_size),
        }
    }

    /// The bytes of a row below the capacity.
    #[inline(always)]
    pub fn bytes_of(&self, batch: usize, head: usize, position: usize) -> &'a [u8] {
        let size = self.dim * self.dtype.size();
        &self.bytes[self.row(batch, head, position) * size..][..size]
    }

    /// Rows from `position` on that lie one behind the other.
    fn run(&self, position: usize) -> usize {
        match self.table {
            Some(_) => self.page_size - self.place(position).1,
            None => self.page_size - position,
        }
    }

    /// The elements of `count` rows where they are f32 and lie in one piece.
    pub fn direct(&self, batch: usize, head: usize, from: usize, count: usize) -> Option<&'a [f32]> {
        if self.dtype != DType::F32 || count == 0 || from + count > self.capacity || count > self.run(from) {
            return None;
        }
        let row = self.row(batch, head, from);
        bytemuck::try_cast_slice(&self.bytes[row * self.dim * 4..(row + count) * self.dim * 4]).ok()
    }

    /// Copies (and widens) `count` rows from `from` on, `width ≥ dim` elements apart.
    ///
    /// # Safety
    /// As for [`Simd`].
    #[inline(always)]
    pub unsafe fn load<S: Simd>(&self, batch: usize, head: usize, from: usize, count: usize, width: usize, out: &mut [f32]) {
        let mut done = 0;
        while done < count {
            let run = self.run(from + done).min(count - done);
            let row = self.row(batch, head, from + done);
            if width == self.dim {
                let out = &mut out[done * width..(done + run) * width];
                // SAFETY: the caller's promise.
                unsafe { widen::<S>(self.dtype, self.bytes, row * width, out) };
            } else {
                for index in 0..run {
                    let out = &mut out[(done + index) * width..][..self.dim];
                    // SAFETY: the caller's promise.
                    unsafe { widen::<S>(self.dtype, self.bytes, (row + index) * self.dim, out) };
                }
            }
            done += run;
        }
    }
}

/// Which inputs and attributes of a call say where things are.
pub struct Places {
    pub q: usize,
    pub table: usize,
    pub lengths: usize,
    pub kv_map: usize,
    /// Attributes `queryLayout` and `lengthK`.
    pub layout: usize,
    pub length_k: usize,
    /// Keys that one row of the pages stands for.
    pub keys_per_row: usize,
}

/// Queries and keys of a call. Query i of an element is at position lenK − lenQ + i.
pub struct Source<'a> {
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub length_q: usize,
    /// Channels of a query.
    pub dim: usize,
    q: &'a [f32],
    /// Distance, in queries, of neighbouring positions and heads in q.
    pub position_stride: usize,
    head_stride: usize,
    pub keys: Pages<'a>,
    /// lenQ and lenK of each batch element.
    pub lengths: Vec<(usize, usize)>,
    /// Query heads of each key-value head.
    pub groups: Vec<Vec<usize>>,
}

impl<'a> Source<'a> {
    pub fn new(op: &str, call: &Call<'_, 'a>, rows: TensorRef<'a>, places: &Places) -> Result<Self, KernelError> {
        let q = call.input(places.q)?;
        ensure!(q.shape.len() == 4, "{op}: q must have four axes");
        let batch = q.shape[0];
        let heads_first = call.attr_usize(places.layout)? == 0;
        let (heads, length_q) = if heads_first {
            (q.shape[1], q.shape[2])
        } else {
            (q.shape[2], q.shape[1])
        };
        let keys = Pages::new(op, rows, call.optional(places.table), batch)?;
        let kv_heads = keys.heads;
        let most = keys.capacity * places.keys_per_row;
        let length_k = call.attr(places.length_k)?;
        let fits = length_k <= most as f64;
        ensure!(fits, "{op}: lengthK is {length_k}, the pages hold {most} keys");
        let length_k = if length_k < 0.0 { most } else { length_k as usize };
        let mut lengths = vec![(length_q, length_k); batch];
        if let Some(given) = call.optional(places.lengths) {
            ensure!(given.shape == [batch, 2], "{op}: lengths are {:?}", given.shape);
            for (pair, given) in lengths.iter_mut().zip(given.i32s()?.chunks_exact(2)) {
                let inside = |value: i32, most: usize| usize::try_from(value).ok().filter(|&value| value <= most);
                *pair = match (inside(given[0], length_q), inside(given[1], most)) {
                    (Some(queries), Some(keys)) => (queries, keys),
                    _ => {
                        return Err(KernelError(format!(
                            "{op}: lengths {given:?} are outside of {length_q} queries and {most} keys"
                        )))
                    }
                };
            }
        }
        Ok(Self {
            batch,
            heads,
            kv_heads,
            length_q,
            dim: q.shape[3],
            q: q.f32s()?,
            position_stride: if heads_first { 1 } else { heads },
            head_stride: if heads_first { length_q } else { 1 },
            groups: groups(op, call.optional(places.kv_map), heads, kv_heads)?,
            keys,
            lengths,
        })
    }

    /// Where the channels of a query begin in q.
    fn at(&self, batch: usize, head: usize, index: usize) -> usize {
        (batch * self.heads * self.length_q + head * self.head_stride + index * self.position_stride) * self.dim
    }

    pub fn query(&self, batch: usize, head: usize, index: usize) -> &'a [f32] {
        &self.q[self.at(batch, head, index)..][..self.dim]
    }

    /// Keys that a query sees: those up to its position.
    pub fn visible(&self, batch: usize, index: usize) -> usize {
        let (queries, keys) = self.lengths[batch];
        if index < queries {
            (keys + index + 1).saturating_sub(queries)
        } else {
            0
        }
    }
}

fn groups(op: &str, kv_map: Option<TensorRef>, heads: usize, kv_heads: usize) -> Result<Vec<Vec<usize>>, KernelError> {
    let mut groups = vec![Vec::new(); kv_heads];
    match kv_map {
        Some(map) => {
            ensure!(map.shape == [heads], "{op}: kvMap is {:?} for {heads} heads", map.shape);
            for (head, &kv_head) in map.i32s()?.iter().enumerate() {
                ensure!(
                    kv_head >= 0 && (kv_head as usize) < kv_heads,
                    "{op}: kvMap names head {kv_head} of {kv_heads}"
                );
                groups[kv_head as usize].push(head);
            }
        }
        None => {
            ensure!(
                kv_heads > 0 && heads.is_multiple_of(kv_heads),
                "{op}: {heads} query heads do not share {kv_heads} key-value heads"
            );
            for head in 0..heads {
                groups[head / (heads / kv_heads)].push(head);
            }
        }
    }
    Ok(groups)
}
