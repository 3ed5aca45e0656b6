//! What selectors estimate and choose from. Contracts: packages/sparse-attention/src/select/.

mod antidiagonal_scores;
mod append_labels;
mod args;
mod block_scores;
mod bound_scores;
mod chunk_descent;
mod dots;
mod indices;
mod key_rows;
mod label_scores;
mod lower;
mod lower_call;
mod page_bounds;
mod pool_blocks;
mod probe_sums;
mod probe_tile;
mod product;
mod quant_dot;
mod quantize;
mod row_stats;
mod runs;
mod scan;
mod select_row;
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
    OpSpec {
        name: "sparse_attention_select_row",
        signature: "sparse_attention_select_row(scores,budget?,least?,lengths?)->(bits,counts)[topK,topShare,topP,threshold,min,max,sinks,local,scope,blockQ,blockK]",
        run: select_row::run,
    },
    OpSpec {
        name: "sparse_attention_pool_blocks",
        signature: "sparse_attention_pool_blocks(x,table?,lengths?,center?)->(y)[block,stride,mode,layout]",
        run: pool_blocks::run,
    },
    OpSpec {
        name: "sparse_attention_block_scores",
        signature: "sparse_attention_block_scores(qc,kc,keep?,lengths?,kvMap?)->(y)[scale,blockQ,blockK,softmax]",
        run: block_scores::run,
    },
    OpSpec {
        name: "sparse_attention_probe_sums",
        signature: "sparse_attention_probe_sums(q,k,table?,lengths?,kvMap?)->(columns,diagonals)[rows,scale,softcap,queryLayout,lengthK]",
        run: probe_sums::run,
    },
    OpSpec {
        name: "sparse_attention_lower_selection",
        signature: "sparse_attention_lower_selection(blocks?,moreBlocks?,columns?,slashes?,ranges?,lengths?,kvMap?)->(plan,cells)[lengthQ,heads,blockQ,blockK,capacity,slashStep,maxSlashes,maxColumns,excluded,window]",
        run: lower::run,
    },
    OpSpec {
        name: "sparse_attention_selection_indices",
        signature: "sparse_attention_selection_indices(bits,lengths?)->(indices,cells)[unit,slots,lengthK]",
        run: indices::run,
    },
    OpSpec {
        name: "sparse_attention_chunk_descent",
        signature:
            "sparse_attention_chunk_descent(q,k,table?,lengths?,kvMap?)->(bits)[keep,blockQ,blockK,strideQ,queryLayout,lengthK]",
        run: chunk_descent::run,
    },
    OpSpec {
        name: "sparse_attention_quant_dot",
        signature:
            "sparse_attention_quant_dot(q,k,limit,table?,lengths?,kvMap?)->(y)[scale,bits,blockQ,blockK,queryLayout,lengthK]",
        run: quant_dot::run,
    },
    OpSpec {
        name: "sparse_attention_row_stats",
        signature: "sparse_attention_row_stats(q,k,plan,table?)->(largest,sum)[scale,softcap,queryLayout]",
        run: row_stats::run,
    },
];
