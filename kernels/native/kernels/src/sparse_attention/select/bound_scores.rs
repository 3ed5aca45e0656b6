//! sparse_attention_bound_scores — upper bounds of the scores of pages. Contract: packages/sparse-attention/src/select/bound-scores.ts.
//! Reads both bounds of every visible page once per key-value head and 64 queries; per bound, query and vector a choice of the bound
//! and a multiply-add; queries of a head share what is read.

use super::scan::{run as scan, Scan};
use super::source::{Pages, Places, Source};
use crate::call::Call;
use crate::{ensure, KernelError};

const OP: &str = "bound-scores";

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let (low, high) = (call.input(1)?, call.input(2)?);
    ensure!(
        low.shape == high.shape && low.dtype == high.dtype,
        "{OP}: keyMin {:?} and keyMax {:?} differ",
        low.shape,
        high.shape
    );
    let keys_per_row = call.attr_usize(1)?;
    ensure!(keys_per_row > 0, "{OP}: page is 0");
    let places = Places {
        q: 0,
        table: 3,
        lengths: 4,
        kv_map: 5,
        layout: 2,
        length_k: 3,
        keys_per_row,
    };
    let source = Source::new(OP, call, low, &places)?;
    ensure!(source.dim == source.keys.dim, "{OP}: q and keyMin differ in the head dim");
    let high = Pages::new(OP, high, call.optional(3), source.batch)?;
    let call_scale = call.attr(0)? as f32;
    let scan_call = Scan {
        source,
        high: Some(high),
        channels: None,
        scale: call_scale,
        keys_per_row,
    };
    scan(OP, call, &scan_call)
}
