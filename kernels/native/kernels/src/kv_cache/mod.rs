//! Paged key-value storage: raw rows, and pages of codes that attention reads as they are.

mod append;
mod code_lanes;
mod coded_attention;
#[cfg(target_arch = "x86_64")]
mod coded_dots;
mod coded_rows;
mod coded_task;
mod coded_weights;
mod decode;
mod encode;
mod expand_lanes;
mod layout;
mod level_lanes;
mod levels;
mod pruned;
mod pruned_rows;
mod rotate;

use crate::OpSpec;

pub const OPS: &[OpSpec] = &[
    OpSpec {
        name: "kv_cache_append",
        signature: "kv_cache_append(keyPages!,valuePages!,k,v,slots)->()[]",
        run: append::run,
    },
    OpSpec {
        name: "kv_cache_encode",
        signature: "kv_cache_encode(pages,sources,targets,coded!)->()[side,format]",
        run: encode::run,
    },
    OpSpec {
        name: "kv_cache_decode",
        signature: "kv_cache_decode(coded,ids)->(rows)[side,format,pageSize,dim]",
        run: decode::run,
    },
    OpSpec {
        name: "kv_cache_rotate",
        signature: "kv_cache_rotate(x)->(y)[seed,inverse]",
        run: rotate::run,
    },
    OpSpec {
        name: "kv_cache_coded_attention",
        signature:
            "kv_cache_coded_attention(q,kPages,vPages,table,lengths)->(o,lse)[scale,softcap,kFormat,vFormat,pageSize,valueDim]",
        run: coded_attention::run,
    },
];
