//! sparse_attention_probe_sums — exact softmax of the last rows, summed by key and by distance. Contract:
//! packages/sparse-attention/src/select/probe-sums.ts.
//!
//! Queries in vector lanes, as in the executors: a key's element is a broadcast, its scores are vectors, and what it adds to the distances is one unaligned
//! vector per vector of queries. Two passes over the keys, 4·rows·K·D operations a head: maxima and sums, then probabilities. Work items are chunks of keys,
//! cut by shape alone; what they leave is added up in order, some work items at a time: beside 2·rows numbers per work item, scratch does not grow with the keys.

use super::args::{axes, kv_heads, lengths, limit, Lengths};
use super::key_rows::KeyRows;
use super::probe_tile::{probabilities, statistics, Chunk, Probe, MOST_WIDTH};
use crate::call::Call;
use crate::pool::Disjoint;
use crate::{ensure, KernelError};

/// Keys of a work item.
const CHUNK: usize = 1024;
/// Work items whose distances are held at once.
const WAVE: usize = 64;

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let op = "probe-sums";
    let q = call.input(0)?;
    let [batch, second, third, dim] = axes(op, "q", &q)?;
    let heads_first = call.attr_usize(3)? == 0;
    let (heads, length_q) = if heads_first { (second, third) } else { (third, second) };
    let keys = KeyRows::new(op, call.input(1)?, call.optional(2), batch)?;
    ensure!(keys.dim == dim && dim <= 1024, "{op}: q has {dim} channels, k {}", keys.dim);
    let all = Lengths {
        queries: length_q,
        keys: limit(call, 4)?.unwrap_or(keys.capacity),
    };
    ensure!(
        all.keys <= keys.capacity,
        "{op}: lengthK is {}, k holds {}",
        all.keys,
        keys.capacity
    );
    let bounds = Lengths {
        keys: keys.capacity,
        ..all
    };
    let lengths = match call.optional(3) {
        None => vec![all; batch],
        given => lengths(op, given, batch, bounds)?,
    };
    let kv_of = kv_heads(op, call.optional(4), heads, keys.heads)?;
    let rows = call.attr_usize(0)?.min(length_q);
    let q = q.f32s()?;
    let (scale, softcap) = (call.attr(1)? as f32, call.attr(2)? as f32);
    let (pool, cpu) = (call.pool, call.cpu);
    let [columns, diagonals] = call.outputs else {
        return Err(KernelError(format!("{op}: columns and diagonals are missing")));
    };
    let (columns, diagonals) = (columns.f32s()?, diagonals.f32s()?);
    let total = batch * heads;
    ensure!(
        columns.len() == total * keys.capacity && diagonals.len() == columns.len(),
        "{op}: columns or diagonals do not fit"
    );
    columns.fill(0.0);
    diagonals.fill(0.0);
    let chunks = lengths.iter().map(|length| length.keys).max().unwrap_or(0).div_ceil(CHUNK);
    let padded = rows.next_multiple_of(MOST_WIDTH);
    if total * chunks * rows == 0 {
        return Ok(());
    }
    // Per head and chunk: maximum and sum of every row; per work item of a wave: what it adds to distances.
    let mut stats = vec![0f32; total * chunks * 2 * padded];
    let mut parts = vec![0f32; WAVE.min(total * chunks) * (CHUNK + padded)];
    let probe_of = |column: usize| {
        let (element, head) = (column / heads, column % heads);
        let length = lengths[element];
        let count = rows.min(length.queries);
        Probe {
            q,
            first: (length.queries - count, count),
            row: if heads_first {
                (column * length_q, 1)
            } else {
                (element * length_q * heads + head, heads)
            },
            keys: &keys,
            place: (element, kv_of[head]),
            position: length.offset() + (length.queries - count) as i64,
            scale,
            softcap,
            padded,
        }
    };
    let chunk_of = |column: usize, chunk: usize| {
        let end = lengths[column / heads].keys;
        (chunk * CHUNK).min(end)..((chunk + 1) * CHUNK).min(end)
    };
    let shared = Disjoint::new(&mut stats);
    pool.run(total * chunks, &|job| {
        // SAFETY: chunks of heads have parts of their own.
        let own = unsafe { shared.part(job * 2 * padded, 2 * padded) };
        let chunk = Chunk {
            keys: chunk_of(job / chunks, job % chunks),
        };
        statistics(cpu, &probe_of(job / chunks), chunk, own);
    });
    let merged: Vec<f32> = (0..total)
        .flat_map(|column| {
            merge(
                &stats[column * chunks * 2 * padded..][..chunks * 2 * padded],
                &probe_of(column),
            )
        })
        .collect();
    let sums = Disjoint::new(columns);
    for first in (0..total * chunks).step_by(WAVE) {
        let count = WAVE.min(total * chunks - first);
        parts.fill(0.0);
        let shared = Disjoint::new(&mut parts);
        pool.run(count, &|own| {
            let (column, chunk) = ((first + own) / chunks, (first + own) % chunks);
            let chunk = chunk_of(column, chunk);
            // SAFETY: as above; the keys of a chunk are its own.
            let (part, sums) = unsafe {
                (
                    shared.part(own * (CHUNK + padded), CHUNK + padded),
                    sums.part(column * keys.capacity + chunk.start, chunk.len()),
                )
            };
            let stats = &merged[column * 2 * padded..(column + 1) * 2 * padded];
            probabilities(cpu, &probe_of(column), Chunk { keys: chunk }, stats, sums, part);
        });
        for (own, part) in parts.chunks_exact(CHUNK + padded).take(count).enumerate() {
            let (column, chunk) = ((first + own) / chunks, (first + own) % chunks);
            let chunk = chunk_of(column, chunk);
            if chunk.is_empty() {
                continue;
            }
            // Element i of a part is the distance of the first row to the chunk's last key, and i more.
            let from = probe_of(column).position - (chunk.end as i64 - 1);
            let skipped = (-from).max(0) as usize;
            let out = &mut diagonals[column * keys.capacity..][..lengths[column / heads].keys];
            let start = from.max(0) as usize;
            for (sum, value) in out.iter_mut().skip(start).zip(&part[skipped.min(part.len())..]) {
                *sum += value;
            }
        }
    }
    Ok(())
}

/// Maximum, and what an exponential is multiplied by to be a probability, of every row: from those of the chunks.
fn merge(chunks: &[f32], probe: &Probe) -> Vec<f32> {
    let padded = probe.padded;
    let mut merged = vec![0f32; 2 * padded];
    for row in 0..padded {
        let parts = || {
            chunks
                .chunks_exact(2 * padded)
                .map(move |chunk| (chunk[row], chunk[padded + row]))
        };
        let largest = parts().map(|part| part.0).fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = parts().map(|(own, sum)| sum * (own - largest).exp2()).sum();
        let real = row < probe.first.1 && probe.position + row as i64 >= 0;
        merged[row] = largest;
        merged[padded + row] = if real { 1.0 / sum } else { 0.0 };
    }
    merged
}
