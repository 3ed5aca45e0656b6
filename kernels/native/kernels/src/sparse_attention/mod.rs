//! Attention executors: dense and planned, over contiguous or paged keys and values.

mod arithmetic;
mod block;
mod call;
mod chunk;
mod keys;
mod lanes;
mod list;
mod partial;
mod plan;
mod rows;
mod scores;
pub mod select;
mod shape;
mod tile;
mod visible;
mod work;

use crate::OpSpec;

pub const OPS: &[OpSpec] = &[
    OpSpec {
        name: "sparse_attention_attention",
        signature:
            "sparse_attention_attention(q,k,v,table?,lengths?)->(o,lse)[scale,softcap,causal,window,lengthK,queryLayout,precision]",
        run: call::dense,
    },
    OpSpec {
        name: "sparse_attention_planned_attention",
        signature: "sparse_attention_planned_attention(q,k,v,plan,table?)->(o,lse)[scale,softcap,queryLayout,precision]",
        run: call::planned,
    },
];
