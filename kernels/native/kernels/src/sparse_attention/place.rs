//! Where queries, keys and results of a call lie, for executors that go row by row.

use crate::call::{Call, DType, TensorRef};
use crate::{ensure, KernelError};
use half::{bf16, f16};

pub struct Place<'a> {
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub length_q: usize,
    pub dim: usize,
    heads_first: bool,
    q: &'a [f32],
    k: TensorRef<'a>,
    table: Option<&'a [i32]>,
    pub page_size: usize,
    pages_per_batch: usize,
    kv_head: Vec<usize>,
}

impl<'a> Place<'a> {
    /// `kv_map`: without it, query heads share key-value heads evenly.
    pub fn new(
        call: &Call<'_, 'a>,
        table: Option<TensorRef<'a>>,
        kv_map: Option<&[i32]>,
        heads_first: bool,
    ) -> Result<Self, KernelError> {
        let (q, k) = (call.input(0)?, call.input(1)?);
        ensure!(
            q.shape.len() == 4 && k.shape.len() == 4 && q.shape[3] == k.shape[3],
            "attention: k {:?} does not fit q {:?}",
            k.shape,
            q.shape
        );
        ensure!(matches!(k.dtype, DType::F32 | DType::F16), "attention: k is {:?}", k.dtype);
        let (heads, length_q) = if heads_first {
            (q.shape[1], q.shape[2])
        } else {
            (q.shape[2], q.shape[1])
        };
        let (batch, kv_heads, page_size) = (q.shape[0], k.shape[1], k.shape[2]);
        let kv_head = match kv_map {
            Some(map) => map.iter().map(|&head| head as usize).collect(),
            None => {
                ensure!(
                    kv_heads > 0 && heads.is_multiple_of(kv_heads),
                    "attention: {heads} query heads do not share {kv_heads} key-value heads"
                );
                (0..heads).map(|head| head / (heads / kv_heads)).collect::<Vec<_>>()
            }
        };
        ensure!(
            kv_head.len() == heads && kv_head.iter().all(|&head| head < kv_heads),
            "attention: kvMap does not map {heads} query heads to {kv_heads} key-value heads"
        );
        let table = table.map(|table| table.i32s()).transpose()?;
        ensure!(
            table.map_or(k.shape[0] == batch || batch == 0, |table| {
                table.iter().all(|&page| page >= 0 && (page as usize) < k.shape[0])
            }),
            "attention: the page table names a page beyond {}, or k has not a page per element",
            k.shape[0]
        );
        Ok(Self {
            batch,
            heads,
            kv_heads,
            length_q,
            dim: q.shape[3],
            heads_first,
            q: q.f32s()?,
            k,
            table,
            page_size,
            pages_per_batch: table.map_or(1, |table| table.len() / batch.max(1)),
            kv_head,
        })
    }

    /// Keys that an element of the batch can have.
    pub fn capacity(&self) -> usize {
        self.pages_per_batch * self.page_size
    }

    /// Row of q and o.
    pub fn row(&self, batch: usize, head: usize, query: usize) -> usize {
        if self.heads_first {
            (batch * self.heads + head) * self.length_q + query
        } else {
            (batch * self.length_q + query) * self.heads + head
        }
    }

    pub fn kv_head(&self, head: usize) -> usize {
        self.kv_head[head]
    }

    /// Row of k and v of a key below [`capacity`](Self::capacity).
    pub fn key_row(&self, batch: usize, head: usize, key: usize) -> usize {
        let (page, entry) = match self.table {
            Some(table) => (
                table[batch * self.pages_per_batch + key / self.page_size] as usize,
                key % self.page_size,
            ),
            None => (batch, key),
        };
        (page * self.kv_heads + self.kv_head[head]) * self.page_size + entry
    }

    /// Copies a query row, rounded when `rounded`.
    pub fn query(&self, row: usize, rounded: bool, out: &mut [f32]) {
        out.copy_from_slice(&self.q[row * self.dim..(row + 1) * self.dim]);
        if rounded {
            out.iter_mut().for_each(|value| *value = round(*value));
        }
    }

    /// scale · q k, capped: the score in natural-log units.
    pub fn score(&self, query: &[f32], key_row: usize, scoring: &Scoring) -> f32 {
        let mut dot = 0.0;
        for (channel, &q) in query.iter().enumerate() {
            let key = element(self.k, key_row * self.dim + channel);
            dot += q * if scoring.bf16 { round(key) } else { key };
        }
        let score = dot * scoring.scale;
        if scoring.softcap > 0.0 {
            scoring.softcap * (score / scoring.softcap).tanh()
        } else {
            score
        }
    }
}

/// What makes a score of a dot.
#[derive(Clone, Copy)]
pub struct Scoring {
    pub scale: f32,
    pub softcap: f32,
    /// Numbers are rounded to bfloat16 first.
    pub bf16: bool,
}

/// The nearest bfloat16; below 2^−126 it is 0.
pub fn round(value: f32) -> f32 {
    if value.abs() < f32::MIN_POSITIVE {
        0.0
    } else {
        bf16::from_f32(value).to_f32()
    }
}

/// An element of keys or values in f32 or f16.
pub fn element(tensor: TensorRef, index: usize) -> f32 {
    let bytes = tensor.bytes;
    match tensor.dtype {
        DType::F16 => f16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]]).to_f32(),
        _ => f32::from_le_bytes([
            bytes[4 * index],
            bytes[4 * index + 1],
            bytes[4 * index + 2],
            bytes[4 * index + 3],
        ]),
    }
}
