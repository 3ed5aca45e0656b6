//! sparse_attention_gather_attention — every query over a list of keys of its own.
//! Contract: packages/sparse-attention/src/ops/gather-attention.ts.
//!
//! One job per (batch, head, query): tiles of 64 list entries, scores first, then their weights. 2·B·Hq·Lq·T·(D + Dv) operations; K and V of the
//! listed keys are read once per query row.

use super::place::{element, round, Place, Scoring};
use crate::call::{Call, TensorRef};
use crate::pool::Disjoint;
use crate::{ensure, KernelError};

/// Entries of a tile.
const TILE: usize = 64;
/// What no score lies below.
const NONE: f32 = -1e30;

/// Online softmax of one row.
struct Row {
    /// Greatest score of all tiles so far, and what weights are relative to.
    running: f32,
    largest: f32,
    sum: f32,
    values: Vec<f32>,
    bf16: bool,
}

impl Row {
    /// Takes a tile of scores and the rows of their values.
    fn see(&mut self, scores: &[f32], keys: &[usize], v: TensorRef, skip: f32) {
        let most = scores
            .iter()
            .fold(NONE, |most, &score| if score > most { score } else { most });
        if skip > 0.0 && self.running > NONE && most <= self.running - skip {
            return;
        }
        self.running = self.running.max(most);
        let unit = if self.bf16 { std::f32::consts::LOG2_E } else { 1.0 };
        let weight = |x: f32| if self.bf16 { x.exp2() } else { x.exp() };
        let next = self.running * unit;
        let largest = if self.bf16 { next.ceil() } else { next };
        let alpha = weight(self.largest - largest);
        self.largest = largest;
        self.sum *= alpha;
        self.values.iter_mut().for_each(|value| *value *= alpha);
        for (&score, &key) in scores.iter().zip(keys) {
            let own = weight(score * unit - largest);
            let own = if self.bf16 { round(own) } else { own };
            self.sum += own;
            let dim = self.values.len();
            for (channel, value) in self.values.iter_mut().enumerate() {
                let number = element(v, key * dim + channel);
                *value += own * if self.bf16 { round(number) } else { number };
            }
        }
    }

    fn log_sum(&self) -> f32 {
        let largest = if self.bf16 {
            self.largest * std::f32::consts::LN_2
        } else {
            self.largest
        };
        largest + self.sum.ln()
    }
}

pub fn gather(call: &mut Call) -> Result<(), KernelError> {
    let heads_first = call.attr_usize(2)? == 0;
    let kv_map = call.optional(5).map(|map| map.i32s()).transpose()?;
    let place = Place::new(call, call.optional(4), kv_map, heads_first)?;
    let scoring = Scoring {
        scale: call.attr(0)? as f32,
        softcap: call.attr(1)? as f32,
        bf16: call.attr_usize(3)? == 1,
    };
    let skip = call.attr(4)? as f32;
    let (k, v, lists) = (call.input(1)?, call.input(2)?, call.input(3)?);
    ensure!(
        v.dtype == k.dtype && v.shape.len() == 4 && v.shape[..3] == k.shape[..3],
        "gather-attention: v does not fit k"
    );
    let indices = lists.i32s()?;
    ensure!(
        lists.shape.len() == 4
            && lists.shape[0] == place.batch
            && lists.shape[2] == place.length_q
            && [1, place.kv_heads, place.heads].contains(&lists.shape[1]),
        "gather-attention: indices {:?} do not fit q",
        lists.shape
    );
    let (mask_heads, slots, value_dim) = (lists.shape[1], lists.shape[3], v.shape[3]);
    let capacity = place.capacity();
    ensure!(
        indices.iter().all(|&key| key < 0 || (key as usize) < capacity),
        "gather-attention: indices name keys beyond {capacity}"
    );
    let rows = place.batch * place.heads * place.length_q;
    let pool = call.pool;
    let [o, lse] = call.outputs else {
        return Err(KernelError("gather-attention: o and lse are missing".into()));
    };
    let (o, lse) = (o.f32s()?, lse.f32s()?);
    ensure!(
        o.len() == rows * value_dim && lse.len() == rows,
        "gather-attention: o or lse does not fit q"
    );
    let (o, lse) = (Disjoint::new(o), Disjoint::new(lse));
    pool.run(rows, &|job| {
        let (query, head) = (job % place.length_q, job / place.length_q % place.heads);
        let batch = job / (place.length_q * place.heads);
        let mask_head = match mask_heads {
            count if count == place.heads => head,
            1 => 0,
            _ => place.kv_head(head),
        };
        let list = ((batch * mask_heads + mask_head) * place.length_q + query) * slots;
        let row = place.row(batch, head, query);
        let mut own = vec![0.0; place.dim];
        place.query(row, scoring.bf16, &mut own);
        let mut state = Row {
            running: NONE,
            largest: if scoring.bf16 { NONE * std::f32::consts::LOG2_E } else { NONE },
            sum: 0.0,
            values: vec![0.0; value_dim],
            bf16: scoring.bf16,
        };
        for tile in indices[list..list + slots].chunks(TILE) {
            let keys: Vec<usize> = tile
                .iter()
                .filter(|&&key| key >= 0)
                .map(|&key| place.key_row(batch, head, key as usize))
                .collect();
            let scores: Vec<f32> = keys.iter().map(|&key| place.score(&own, key, &scoring)).collect();
            if !keys.is_empty() {
                state.see(&scores, &keys, v, skip);
            }
        }
        // SAFETY: every row of o and of lse belongs to one job.
        let (o, lse) = unsafe { (o.part(row * value_dim, value_dim), lse.part(job, 1)) };
        if state.sum == 0.0 {
            o.fill(0.0);
            lse[0] = f32::NEG_INFINITY;
            return;
        }
        for (o, value) in o.iter_mut().zip(&state.values) {
            *o = value / state.sum;
        }
        lse[0] = state.log_sum();
    });
    Ok(())
}
