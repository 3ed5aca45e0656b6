//! sparse_attention_attention_stats — exact probabilities of a plan's cells, summed or their maximum taken by blocks.
//! Contract: packages/sparse-attention/src/ops/attention-stats.ts.
//!
//! One job per (batch, head, block of queries), which owns its row of y. 2·cells·D operations; K of the visible keys once per query.

use super::list::{Cut, List, Rule};
use super::place::{Place, Scoring};
use super::plan::Plan;
use crate::call::Call;
use crate::pool::Disjoint;
use crate::{ensure, KernelError};

pub fn stats(call: &mut Call) -> Result<(), KernelError> {
    let heads_first = call.attr_usize(5)? == 0;
    let shape = call.input(0)?.shape;
    ensure!(shape.len() == 4, "attention-stats: q {shape:?} must have four axes");
    let (heads, length_q) = if heads_first {
        (shape[1], shape[2])
    } else {
        (shape[2], shape[1])
    };
    let plan = Plan::read(call.input(2)?.i32s()?, shape[0], heads, length_q, call.pool)?;
    let place = Place::new(call, call.optional(4), plan.kv_map(heads), heads_first)?;
    let scoring = Scoring {
        scale: call.attr(0)? as f32,
        softcap: call.attr(1)? as f32,
        bf16: false,
    };
    let (block_q, block_k, largest) = (call.attr_usize(2)?, call.attr_usize(3)?, call.attr_usize(4)? == 1);
    ensure!(
        block_q > 0 && block_k > 0,
        "attention-stats: blocks of {block_q} queries and {block_k} keys"
    );
    let capacity = place.capacity();
    ensure!(
        plan.length_k.iter().all(|&length| length <= capacity),
        "attention-stats: the plan's lengths {:?} exceed {capacity} keys",
        plan.length_k
    );
    let lse = call.input(3)?.f32s()?;
    let (blocks_q, blocks_k) = (place.length_q.div_ceil(block_q), capacity.div_ceil(block_k));
    let rows = place.batch * place.heads;
    let pool = call.pool;
    let y = call.output(0)?.f32s()?;
    ensure!(
        lse.len() == rows * place.length_q && y.len() == rows * blocks_q * blocks_k,
        "attention-stats: lse or y does not fit q"
    );
    let y = Disjoint::new(y);
    pool.run(rows * blocks_q, &|job| {
        let (batch, head) = (job / (blocks_q * place.heads), job / blocks_q % place.heads);
        let first = job % blocks_q * block_q;
        // SAFETY: every job has its own row.
        let y = unsafe { y.part(job * blocks_k, blocks_k) };
        y.fill(0.0);
        let mut own = vec![0.0; place.dim];
        let mut list = List::default();
        let mut named = None;
        for query in first..(first + block_q).min(plan.length_q[batch]) {
            let sum = lse[(batch * place.heads + head) * place.length_q + query];
            if sum == f32::NEG_INFINITY {
                continue;
            }
            let name = plan.name(batch, head, query);
            if named != Some(name) {
                list.clear(0, Cut::Places, plan.special());
                plan.list(name, &mut list);
                named = Some(name);
            }
            place.query(place.row(batch, head, query), false, &mut own);
            for visit in &list.visits {
                let mut bit = 0;
                for piece in visit.pieces.clone() {
                    for (within, key) in list.pieces[piece].positions().enumerate() {
                        let rule = list.rules.get(piece).copied().unwrap_or(Rule {
                            tested: visit.tested >> bit & 1 == 1,
                            ..Rule::default()
                        });
                        bit += 1;
                        if !plan.sees(batch, query, key, within, rule) {
                            continue;
                        }
                        let score = place.score(&own, place.key_row(batch, head, key), &scoring);
                        let probability = (score - sum).exp();
                        let cell = &mut y[key / block_k];
                        // NaN stays.
                        let greater = probability > *cell || probability.is_nan();
                        *cell = match (largest, greater) {
                            (false, _) => *cell + probability,
                            (true, true) => probability,
                            (true, false) => *cell,
                        };
                    }
                }
            }
        }
    });
    Ok(())
}
