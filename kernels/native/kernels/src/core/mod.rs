//! Basic ops: elementwise, normalisation, rotation, data movement, selection, reductions.

pub(crate) mod elementwise;
mod layer_norm;
mod matmul;
mod movement;
mod reduce;
mod rms_norm;
mod rope;
mod rows;
mod selection;
mod softmax;

use crate::OpSpec;

macro_rules! op {
    ($name:literal, $rest:literal, $run:path) => {
        OpSpec {
            name: $name,
            signature: concat!($name, $rest),
            run: $run,
        }
    };
}

pub const OPS: &[OpSpec] = &[
    op!("core_unary", "(x)->(y)[kind]", elementwise::unary),
    op!("core_binary", "(a,b)->(y)[kind]", elementwise::binary),
    op!("core_gated_activation", "(gate,up)->(y)[kind]", elementwise::gated_activation),
    op!("core_softcap", "(x)->(y)[cap]", elementwise::softcap),
    op!("core_where", "(condition,a,b)->(y)[]", elementwise::select),
    op!("core_cast", "(x)->(y)[dtype]", elementwise::cast),
    op!("core_matmul", "(a,b)->(y)[transposeA,transposeB]", matmul::run),
    op!("core_softmax", "(x)->(y)[]", softmax::run),
    op!("core_rms_norm", "(x,weight)->(y)[eps,weightOffset]", rms_norm::run),
    op!("core_layer_norm", "(x,weight,bias)->(y)[eps]", layer_norm::run),
    op!("core_rope", "(x,positions,inverseFrequencies)->(y)[pairing,scale]", rope::run),
    op!("core_gather_rows", "(table,ids)->(y)[]", rows::gather),
    op!("core_scatter_rows", "(x,ids,rows)->(y)[mode]", rows::scatter),
    op!("core_take_along_axis", "(x,indices)->(y)[]", rows::take_along_axis),
    op!("core_top_k", "(x)->(values,indices)[k]", selection::top_k),
    op!("core_arg_max", "(x)->(y)[]", selection::arg_max),
    op!("core_arg_sort", "(x)->(y)[descending]", selection::arg_sort),
    op!("core_slice", "(x)->(y)[starts,sizes]", movement::slice),
    op!("core_permute", "(x)->(y)[axes]", movement::permute),
    op!("core_write_slice", "(target!,source)->()[axis,start]", movement::write_slice),
    op!("core_reduce", "(x)->(y)[kind,axis,keepDims]", reduce::run),
];
