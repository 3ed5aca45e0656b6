//! sparse_attention_merge — attention over two disjoint sets of keys from attention over each.
//! Contract: packages/sparse-attention/src/ops/merge.ts.
//!
//! Reads both parts once; 3 operations and two exponentials a row beside 3 per number. Rows are independent.

use crate::call::Call;
use crate::pool::Disjoint;
use crate::{ensure, KernelError};

/// Numbers that are worth a job.
const GRAIN: usize = 16 * 1024;

/// Where rows of o lie; lse is [B, Hq, Lq] whatever the layout.
struct Rows {
    heads: usize,
    length: usize,
    heads_first: bool,
}

impl Rows {
    /// Row of o and head of row `row` of lse.
    fn place(&self, row: usize) -> (usize, usize) {
        let (head, query) = (row / self.length % self.heads, row % self.length);
        if self.heads_first {
            return (row, head);
        }
        let batch = row / (self.heads * self.length);
        ((batch * self.length + query) * self.heads + head, head)
    }
}

/// The weights of two parts, whose sum is 1, and the logarithm of both sums; without keys, weights are 0. In f64, as 0 times a value that is not
/// finite is NaN: in f32 weights of parts some 100 apart are 0.
fn weights(own: f32, other: f32) -> ((f64, f64), f32) {
    if own == f32::NEG_INFINITY && other == f32::NEG_INFINITY {
        return ((0.0, 0.0), f32::NEG_INFINITY);
    }
    let largest = if own.is_nan() || own > other { own } else { other };
    let weight = |part: f32| (f64::from(part) - f64::from(largest)).exp();
    let (own, other) = (weight(own), weight(other));
    let sum = own + other;
    ((own / sum, other / sum), (f64::from(largest) + sum.ln()) as f32)
}

pub fn merge(call: &mut Call) -> Result<(), KernelError> {
    let shape = call.input(0)?.shape;
    ensure!(shape.len() == 4, "merge: o is {shape:?}, it takes four axes");
    let heads_first = call.attr_usize(0)? == 0;
    let (heads, length) = if heads_first {
        (shape[1], shape[2])
    } else {
        (shape[2], shape[1])
    };
    let (rows, dim) = (shape[0] * heads * length, shape[3]);
    let (o, lse, other_lse) = (call.input(0)?.f32s()?, call.input(1)?.f32s()?, call.input(3)?.f32s()?);
    let other = call.optional(2).map(|other| other.f32s()).transpose()?;
    let per_head = call.input(3)?.shape.len() == 1;
    ensure!(
        lse.len() == rows && other_lse.len() == if per_head { heads } else { rows },
        "merge: lse or otherLse does not fit o"
    );
    ensure!(
        other.is_none_or(|other| other.len() == o.len()),
        "merge: otherO does not fit o"
    );
    let pool = call.pool;
    let [merged, merged_lse] = call.outputs else {
        return Err(KernelError("merge: results are missing".into()));
    };
    let (merged, merged_lse) = (merged.f32s()?, merged_lse.f32s()?);
    ensure!(
        merged.len() == o.len() && merged_lse.len() == rows,
        "merge: results do not fit o"
    );
    let layout = Rows {
        heads,
        length,
        heads_first,
    };
    let step = (GRAIN / dim.max(1)).max(1);
    let (merged, merged_lse) = (Disjoint::new(merged), Disjoint::new(merged_lse));
    pool.run(rows.div_ceil(step), &|job| {
        for row in job * step..((job + 1) * step).min(rows) {
            let (at, head) = layout.place(row);
            // SAFETY: every row belongs to one job, and rows of lse and of o are one to one.
            let (out, out_lse) = unsafe { (merged.part(at * dim, dim), merged_lse.part(row, 1)) };
            let ((own, others), sum) = weights(lse[row], other_lse[if per_head { head } else { row }]);
            out_lse[0] = sum;
            if sum == f32::NEG_INFINITY {
                out.fill(0.0);
                continue;
            }
            let o = &o[at * dim..(at + 1) * dim];
            match other {
                Some(other) => {
                    let other = &other[at * dim..(at + 1) * dim];
                    for (out, (&o, &other)) in out.iter_mut().zip(o.iter().zip(other)) {
                        *out = (own * f64::from(o) + others * f64::from(other)) as f32;
                    }
                }
                None => {
                    for (out, &o) in out.iter_mut().zip(o) {
                        *out = (own * f64::from(o)) as f32;
                    }
                }
            }
        }
    });
    Ok(())
}
