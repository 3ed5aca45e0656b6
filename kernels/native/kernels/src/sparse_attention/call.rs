//! sparse_attention_attention, _planned_attention, _gather_attention — exact attention with online softmax over lists of keys.
//! Contracts: packages/sparse-attention/src/ops/{attention,planned-attention,gather-attention}.ts.
//!
//! q f32 [B,Hq,Lq,D] or [B,Lq,Hq,D]; k, v f32 or f16 [pages,Hk,P,D|Dv]; o as q with Dv; lse f32 [B,Hq,Lq], natural logarithm.
//! Operations 2·cells·(D + Dv); bytes: K and V of the visible keys once per work item. Keys that lie behind each other are read in place,
//! others are copied to a tile once per work item. bias f32 [pages,Hk,P], of dense attention, is added to scores.

use super::plan::Plan;
use super::shape::{Attributes, Shape};
use super::visible::{Indices, Lengths, Visible};
use super::work::Task;
use crate::call::Call;
use crate::{ensure, KernelError};

pub fn dense(call: &mut Call) -> Result<(), KernelError> {
    let shape = Shape::of(
        call,
        &Attributes {
            scale: 0,
            softcap: 1,
            query_layout: 5,
            precision: Some(6),
            skip: Some(7),
            most: Some(8),
        },
    )?;
    let (causal, window) = (call.attr_bool(2)?, call.attr_usize(3)?);
    let length_k = call.attr(4)?;
    let table = call.optional(3).map(|table| table.i32s()).transpose()?;
    let page_size = call.input(1)?.shape[2];
    let capacity = table.map_or(page_size, |table| table.len() / shape.batch.max(1) * page_size);
    let mut lengths = vec![if length_k < 0.0 { capacity } else { length_k as usize }; shape.batch];
    if let Some(given) = call.optional(4) {
        let given = given.i32s()?;
        ensure!(
            given.len() == shape.batch,
            "attention: lengths has {} elements for a batch of {}",
            given.len(),
            shape.batch
        );
        for (length, &given) in lengths.iter_mut().zip(given) {
            *length = usize::try_from(given).map_err(|_| KernelError(format!("attention: length {given} is negative")))?;
        }
    }
    let task = Task {
        lengths: Lengths {
            q: vec![shape.length_q; shape.batch],
            // The last query sees the last key.
            offset: lengths.iter().map(|&length| length as i64 - shape.length_q as i64).collect(),
            k: lengths,
        },
        table,
        visible: Visible::Dense { causal, window },
        heads: shape.heads_of(call.optional(5).map(|map| map.i32s()).transpose()?)?,
        bias: bias_of(call)?,
        shape,
    };
    task.run(call)
}

/// A number for every row of k.
fn bias_of<'a>(call: &Call<'_, 'a>) -> Result<Option<&'a [f32]>, KernelError> {
    let Some(bias) = call.optional(6) else {
        return Ok(None);
    };
    let rows = &call.input(1)?.shape[..3];
    ensure!(
        bias.shape == rows,
        "attention: bias {:?} does not have a number for every key of {rows:?}",
        bias.shape
    );
    Ok(Some(bias.f32s()?))
}

pub fn planned(call: &mut Call) -> Result<(), KernelError> {
    let shape = Shape::of(
        call,
        &Attributes {
            scale: 0,
            softcap: 1,
            query_layout: 2,
            precision: Some(3),
            skip: Some(4),
            most: Some(5),
        },
    )?;
    let plan = Plan::read(
        call.input(3)?.i32s()?,
        shape.batch,
        shape.query_heads,
        shape.length_q,
        call.pool,
    )?;
    let task = Task {
        table: call.optional(4).map(|table| table.i32s()).transpose()?,
        lengths: Lengths {
            q: plan.length_q.clone(),
            k: plan.length_k.clone(),
            offset: plan.offset.clone(),
        },
        heads: shape.heads_of(plan.kv_map(shape.query_heads))?,
        visible: Visible::Plan(Box::new(plan)),
        bias: None,
        shape,
    };
    task.run(call)
}

pub fn gather(call: &mut Call) -> Result<(), KernelError> {
    let shape = Shape::of(
        call,
        &Attributes {
            scale: 0,
            softcap: 1,
            query_layout: 2,
            precision: Some(3),
            skip: Some(4),
            most: None,
        },
    )?;
    let lists = call.input(3)?;
    let mask_heads = lists.shape.get(1).copied().unwrap_or(0);
    ensure!(
        lists.shape.len() == 4
            && lists.shape[0] == shape.batch
            && lists.shape[2] == shape.length_q
            && [1, shape.kv_heads, shape.query_heads].contains(&mask_heads),
        "gather-attention: indices {:?} do not fit q",
        lists.shape
    );
    let heads = shape.heads_of(call.optional(5).map(|map| map.i32s()).transpose()?)?;
    let mut head_map = vec![0; shape.query_heads];
    for (kv_head, heads) in heads.iter().enumerate() {
        for &head in heads {
            head_map[head] = match mask_heads {
                count if count == shape.query_heads => head,
                1 => 0,
                _ => kv_head,
            };
        }
    }
    let table = call.optional(4).map(|table| table.i32s()).transpose()?;
    let page_size = call.input(1)?.shape[2];
    let capacity = table.map_or(page_size, |table| table.len() / shape.batch.max(1) * page_size);
    let sizes = (mask_heads, shape.length_q, lists.shape[3]);
    let task = Task {
        visible: Visible::Indices(Indices::new(lists.i32s()?, sizes, head_map, capacity)?),
        table,
        lengths: Lengths {
            q: vec![shape.length_q; shape.batch],
            offset: vec![0; shape.batch],
            k: vec![capacity; shape.batch],
        },
        heads,
        bias: None,
        shape,
    };
    task.run(call)
}
