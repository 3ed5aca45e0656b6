//! Paged key-value storage.

mod append;

use crate::OpSpec;

pub const OPS: &[OpSpec] = &[OpSpec {
    name: "kv_cache_append",
    signature: "kv_cache_append(keyPages!,valuePages!,k,v,slots)->()[]",
    run: append::run,
}];
