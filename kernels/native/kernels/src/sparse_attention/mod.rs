//! Attention executors: dense and planned, over contiguous or paged keys and values.

pub(crate) mod ahead;
mod arithmetic;
mod bias;
pub(crate) mod block;
mod call;
mod chunk;
mod keys;
mod lanes;
mod list;
mod merge;
pub(crate) mod partial;
mod plan;
mod rows;
mod scores;
pub mod select;
pub(crate) mod shape;
mod stats;
pub(crate) mod tile;
mod visible;
mod work;

use crate::OpSpec;

pub const OPS: &[OpSpec] = &[
    OpSpec {
        name: "sparse_attention_attention",
        signature: "sparse_attention_attention(q,k,v,table?,lengths?,kvMap?,bias?)->(o,lse)\
                    [scale,softcap,causal,window,lengthK,queryLayout,precision,pvSkip,scoreN,scoreM,scoreSinks,scoreRecent]",
        run: call::dense,
    },
    OpSpec {
        name: "sparse_attention_planned_attention",
        signature: "sparse_attention_planned_attention(q,k,v,plan,table?)->(o,lse)\
                    [scale,softcap,queryLayout,precision,pvSkip,scoreN,scoreM,scoreSinks,scoreRecent]",
        run: call::planned,
    },
    OpSpec {
        name: "sparse_attention_gather_attention",
        signature: "sparse_attention_gather_attention(q,k,v,indices,table?,kvMap?)->(o,lse)\
                    [scale,softcap,queryLayout,precision,pvSkip]",
        run: call::gather,
    },
    OpSpec {
        name: "sparse_attention_attention_stats",
        signature:
            "sparse_attention_attention_stats(q,k,plan,lse,table?)->(y)[scale,softcap,blockQ,blockK,reduce,queryLayout,along]",
        run: stats::stats,
    },
    OpSpec {
        name: "sparse_attention_merge",
        signature: "sparse_attention_merge(o,lse,otherO?,otherLse)->(merged,mergedLse)[queryLayout]",
        run: merge::merge,
    },
];
