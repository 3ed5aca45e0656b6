//! Quantised and float weights: GGUF blocks, the r16 execution layout, fused matmul.

pub mod activations;
pub mod blocks;
pub mod dequantize_rows;
pub mod encode;
pub mod format;
pub mod matmul;
pub mod panel;
#[cfg(target_arch = "x86_64")]
pub mod panel_x86;
pub mod product;
pub mod repack;
pub mod rows;
#[cfg(target_arch = "aarch64")]
pub mod tile_neon;
pub mod tile_scalar;
#[cfg(target_arch = "x86_64")]
pub mod tile_x86;

use crate::OpSpec;

pub const OPS: &[OpSpec] = &[
    OpSpec {
        name: "quantization_repack",
        signature: "quantization_repack(blocks)->(packed)[type,inFeatures]",
        run: repack::run,
    },
    OpSpec {
        name: "quantization_matmul",
        signature: "quantization_matmul(x,weights,bias?,residual?)->(y)[type,outFeatures,inFeatures,layout,activations]",
        run: matmul::run,
    },
    OpSpec {
        name: "quantization_qkv",
        signature: "quantization_qkv(x,query,key,value,queryBias?,keyBias?,valueBias?)->(q,k,v)[types,outFeatures,inFeatures,layout,activations]",
        run: matmul::qkv,
    },
    OpSpec {
        name: "quantization_glu",
        signature: "quantization_glu(x,gate,up,gateBias?,upBias?)->(h)[types,outFeatures,inFeatures,layout,activations,kind]",
        run: matmul::glu,
    },
    OpSpec {
        name: "quantization_quantize",
        signature: "quantization_quantize(x)->(blocks)[type]",
        run: encode::run,
    },
    OpSpec {
        name: "quantization_dequantize_rows",
        signature: "quantization_dequantize_rows(blocks,ids)->(y)[type,inFeatures]",
        run: dequantize_rows::run,
    },
];
