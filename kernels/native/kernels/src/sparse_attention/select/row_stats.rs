//! sparse_attention_row_stats — m and l of the softmax over a plan. Contract: packages/sparse-attention/src/select/row-stats.ts.
//! An executor's call without values: 2·D operations a visible cell.

use crate::call::{Call, TensorRef};
use crate::sparse_attention::plan::Plan;
use crate::sparse_attention::shape::{Attributes, Shape};
use crate::sparse_attention::visible::{Lengths, Visible};
use crate::sparse_attention::work::Task;
use crate::{ensure, KernelError};

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let k = call.input(1)?;
    ensure!(k.shape.len() == 4, "row-stats: k must have four axes");
    let empty = [k.shape[0], k.shape[1], k.shape[2], 0];
    let values = TensorRef {
        dtype: k.dtype,
        shape: &empty,
        bytes: &[],
    };
    let at = Attributes {
        scale: 0,
        softcap: 1,
        query_layout: 2,
        precision: None,
        skip: None,
        most: None,
    };
    let mut shape = Shape::of_values(call, values, &at)?;
    shape.stats = true;
    let plan = Plan::read(
        call.input(2)?.i32s()?,
        shape.batch,
        shape.query_heads,
        shape.length_q,
        call.pool,
    )?;
    let task = Task {
        table: call.optional(3).map(|table| table.i32s()).transpose()?,
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
    ensure!(
        call.outputs.len() == 2,
        "row-stats: {} outputs, it takes 2",
        call.outputs.len()
    );
    // The executor's results are o and lse: the sum and the largest score here.
    call.outputs.swap(0, 1);
    let result = task.run_values(call, values);
    call.outputs.swap(0, 1);
    result
}
