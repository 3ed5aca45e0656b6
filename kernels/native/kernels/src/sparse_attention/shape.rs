//! Sizes and options of a call that do not change between work items.

use super::partial::NONE;
use crate::call::{Call, TensorRef};
use crate::pool::Disjoint;
use crate::{ensure, KernelError};

pub struct Shape {
    pub batch: usize,
    pub query_heads: usize,
    pub kv_heads: usize,
    pub length_q: usize,
    pub dim: usize,
    pub value_dim: usize,
    /// Element strides of q per position and head; those of o follow with `value_dim`.
    pub position_stride: usize,
    head_stride: usize,
    /// scale · log2 e, applied to q, or to the dots of bfloat16; with a softcap, scale alone.
    pub query_scale: f32,
    /// 0: none.
    pub softcap: f32,
    /// Products of numbers rounded to bfloat16.
    pub bf16: bool,
    /// Tiles whose scores stay so far below the greatest one are left out, in units of log 2.
    pub skip: Option<f32>,
    pub most: Option<Most>,
    /// Maximum and sum of each row are results, in place of lse and o; there are no values.
    pub stats: bool,
}

/// N:M softmax: the greatest scores of each group of positions, see docs/design/sparse-attention.md.
#[derive(Clone, Copy)]
pub struct Most {
    pub kept: usize,
    pub group: usize,
    pub sinks: i64,
    pub recent: i64,
}

/// Where the options of attention are among the attributes of an op.
pub struct Attributes {
    pub scale: usize,
    pub softcap: usize,
    pub query_layout: usize,
    /// None: f32.
    pub precision: Option<usize>,
    pub skip: Option<usize>,
    /// The first of the four of N:M softmax.
    pub most: Option<usize>,
}

impl Shape {
    pub fn of(call: &Call, at: &Attributes) -> Result<Self, KernelError> {
        Self::of_values(call, call.input(2)?, at)
    }

    /// [`of`](Self::of) with values that are no argument of the call.
    pub fn of_values(call: &Call, v: TensorRef, at: &Attributes) -> Result<Self, KernelError> {
        let (q, k) = (call.input(0)?, call.input(1)?);
        ensure!(
            q.shape.len() == 4 && k.shape.len() == 4 && v.shape.len() == 4,
            "attention: q, k and v must have four axes"
        );
        let heads_first = call.attr_usize(at.query_layout)? == 0;
        let (query_heads, length_q) = if heads_first {
            (q.shape[1], q.shape[2])
        } else {
            (q.shape[2], q.shape[1])
        };
        let (kv_heads, dim, value_dim) = (k.shape[1], q.shape[3], v.shape[3]);
        ensure!(
            k.shape[3] == dim && v.shape[..3] == k.shape[..3],
            "attention: k {:?} and v {:?} do not fit q {:?}",
            k.shape,
            v.shape,
            q.shape
        );
        ensure!(kv_heads > 0, "attention: k has no heads");
        ensure!(
            dim <= 1024 && value_dim <= 1024,
            "attention: head dims above 1024 are not supported"
        );
        let (scale, softcap) = (call.attr(at.scale)? as f32, call.attr(at.softcap)? as f32);
        let skip = at.skip.map_or(Ok(0.0), |at| call.attr(at))? as f32;
        let most = at.most.map_or(Ok(None), |at| Most::of(call, at))?;
        Ok(Self {
            batch: q.shape[0],
            query_heads,
            kv_heads,
            length_q,
            dim,
            value_dim,
            position_stride: if heads_first { 1 } else { query_heads },
            head_stride: if heads_first { length_q } else { 1 },
            query_scale: if softcap > 0.0 {
                scale
            } else {
                scale * std::f32::consts::LOG2_E
            },
            softcap,
            bf16: at.precision.map_or(Ok(0), |at| call.attr_usize(at))? == 1,
            skip: (skip > 0.0).then_some(skip * std::f32::consts::LOG2_E),
            most,
            stats: false,
        })
    }

    /// Offset of (batch, head, position) in q, in units of one head's row.
    pub fn row(&self, batch: usize, head: usize, position: usize) -> usize {
        batch * self.query_heads * self.length_q + head * self.head_stride + position * self.position_stride
    }

    /// Elements of a row of the first result.
    pub fn width_of_result(&self) -> usize {
        if self.stats {
            1
        } else {
            self.value_dim
        }
    }

    /// lse is [B, Hq, Lq] whatever the layout of q.
    pub fn lse_row(&self, batch: usize, head: usize, index: usize) -> usize {
        (batch * self.query_heads + head) * self.length_q + index
    }

    /// Query heads of each key-value head; without a map groups of the same size follow each other.
    pub fn heads_of(&self, map: Option<&[i32]>) -> Result<Vec<Vec<usize>>, KernelError> {
        let mut heads = vec![vec![]; self.kv_heads];
        ensure!(
            map.is_some() || self.query_heads.is_multiple_of(self.kv_heads),
            "attention: {} query heads do not share {} key-value heads",
            self.query_heads,
            self.kv_heads
        );
        ensure!(
            map.is_none_or(|map| map.len() == self.query_heads),
            "attention: kvMap does not have {} heads",
            self.query_heads
        );
        for head in 0..self.query_heads {
            let kv_head = match map {
                Some(map) => map[head] as usize,
                None => head / (self.query_heads / self.kv_heads),
            };
            heads
                .get_mut(kv_head)
                .ok_or_else(|| KernelError(format!("attention: kvMap names head {} of {}", kv_head as i32, self.kv_heads)))?
                .push(head);
        }
        Ok(heads)
    }

    /// Writes a finished row; `sum` = 0 means that it saw no key.
    ///
    /// # Safety
    /// Nobody else writes the row.
    pub unsafe fn store(
        &self,
        batch: usize,
        (head, index): (usize, usize),
        largest: f32,
        sum: f32,
        values: impl Fn(usize) -> f32,
        o: &Disjoint<f32>,
        lse: &Disjoint<f32>,
    ) {
        let row = self.row(batch, head, index);
        if self.stats {
            let at = self.lse_row(batch, head, index);
            // SAFETY: the caller's promise.
            let (o, lse) = unsafe { (o.part(at, 1), lse.part(at, 1)) };
            o[0] = sum;
            lse[0] = if sum == 0.0 || largest == NONE {
                NONE
            } else {
                largest * std::f32::consts::LN_2
            };
            return;
        }
        // SAFETY: the caller's promise.
        let (o, lse) = unsafe {
            (
                o.part(row * self.value_dim, self.value_dim),
                lse.part(self.lse_row(batch, head, index), 1),
            )
        };
        if sum == 0.0 {
            o.fill(0.0);
            lse[0] = f32::NEG_INFINITY;
            return;
        }
        let inverse = 1.0 / sum;
        for (channel, value) in o.iter_mut().enumerate() {
            *value = values(channel) * inverse;
        }
        lse[0] = natural(largest, sum);
    }
}

impl Most {
    fn of(call: &Call, at: usize) -> Result<Option<Self>, KernelError> {
        let [kept, group, sinks, recent] = [0, 1, 2, 3].map(|next| call.attr_usize(at + next));
        let group = group?;
        if group == 0 {
            return Ok(None);
        }
        ensure!(
            super::list::TILE.is_multiple_of(group),
            "attention: scoreM is {group}, it must divide {}",
            super::list::TILE
        );
        Ok(Some(Self {
            kept: kept?,
            group,
            sinks: sinks? as i64,
            recent: recent? as i64,
        }))
    }
}

/// Log-sum-exp of a row from its base-2 maximum and sum.
pub fn natural(largest: f32, sum: f32) -> f32 {
    largest * std::f32::consts::LN_2 + sum.ln()
}
