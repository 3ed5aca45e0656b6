//! Kernels of Filigree. Pure computation on slices: no threads of its own (parallel loops go through [`Pool`]), no OS, no allocation
//! that outlives a call. Every op is one [`OpSpec`]; [`all_ops`] is the table the addon exports.

pub mod call;
pub mod core;
pub mod cpu;
pub mod error;
pub mod kv_cache;
pub mod pool;
pub mod quantization;
pub mod simd;
pub mod sparse_attention;

pub use call::{Call, DType, OpSpec, TensorMut, TensorRef};
pub use cpu::Cpu;
pub use error::KernelError;
pub use pool::{Pool, SerialPool};

/// Every op of every package.
pub fn all_ops() -> Vec<&'static OpSpec> {
    [
        core::OPS,
        quantization::OPS,
        sparse_attention::OPS,
        sparse_attention::select::OPS,
        kv_cache::OPS,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// 32-bit FNV-1a of an op's signature; the JavaScript side computes the same.
pub fn layout_hash(signature: &str) -> u32 {
    signature
        .bytes()
        .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
