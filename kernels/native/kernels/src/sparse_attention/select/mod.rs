//! What selectors estimate and choose from. Contracts: packages/sparse-attention/src/select/.

mod antidiagonal_scores;
mod append_labels;
mod bound_scores;
mod label_scores;
mod page_bounds;
mod product;
mod scan;
mod source;

use crate::OpSpec;

/// Score of what a query does not see.
pub const HIDDEN: f32 = -1e30;

pub const OPS: &[OpSpec] = &[
    OpSpec {
        name: "sparse_attention_antidiagonal_scores",
        signature:
            "sparse_attention_antidiagonal_scores(q,k,table?,lengths?,kvMap?)->(y)[scale,stride,block,queryLayout,lengthK]",
        run: antidiagonal_scores::run,
    },
    OpSpec {
        name: "sparse_attention_append_labels",
        signature: "sparse_attention_append_labels(labels!,k,channels,slots)->()[]",
        run: append_labels::run,
    },
    OpSpec {
        name: "sparse_attention_bound_scores",
        signature: "sparse_attention_bound_scores(q,keyMin,keyMax,table?,lengths?,kvMap?)->(y)[scale,page,queryLayout,lengthK]",
        run: bound_scores::run,
    },
    OpSpec {
        name: "sparse_attention_label_scores",
        signature: "sparse_attention_label_scores(q,labels,channels,table?,lengths?,kvMap?)->(y)[scale,queryLayout,lengthK]",
        run: label_scores::run,
    },
    OpSpec {
        name: "sparse_attention_page_bounds",
        signature: "sparse_attention_page_bounds(keyMin!,keyMax!,k,slots)->()[]",
        run: page_bounds::run,
    },
];
