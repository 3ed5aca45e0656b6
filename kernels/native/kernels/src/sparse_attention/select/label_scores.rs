//! sparse_attention_label_scores — scores from a few channels of every key. Contract: packages/sparse-attention/src/select/label-scores.ts.
//! Reads the visible labels once per key-value head and 64 queries.

use super::scan::{run as scan, Scan};
use super::source::{Places, Source};
use crate::call::Call;
use crate::{ensure, KernelError};

const OP: &str = "label-scores";

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let (labels, channels) = (call.input(1)?, call.input(2)?);
    let places = Places {
        q: 0,
        table: 3,
        lengths: 4,
        kv_map: 5,
        layout: 1,
        length_k: 2,
        keys_per_row: 1,
    };
    let source = Source::new(OP, call, labels, &places)?;
    ensure!(
        channels.shape == [source.kv_heads, source.keys.dim],
        "{OP}: channels are {:?}",
        channels.shape
    );
    let channels = channels.i32s()?;
    ensure!(
        channels
            .iter()
            .all(|&channel| channel >= 0 && (channel as usize) < source.dim),
        "{OP}: a channel is outside of {}",
        source.dim
    );
    let scale = call.attr(0)? as f32;
    let scan_call = Scan {
        source,
        high: None,
        channels: Some(channels),
        scale,
        keys_per_row: 1,
    };
    scan(OP, call, &scan_call)
}
