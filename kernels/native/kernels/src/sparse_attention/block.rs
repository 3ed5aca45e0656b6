//! One work item: up to 16 query positions of the heads that share a KV head, against their key ranges.
//!
//! Queries in lanes: the item's (head, position) pairs are laid into vectors, qᵀ is [D][lanes] with the scale folded in, a key element is
//! a broadcast from its row. Maximum, sum, mask and rescaling are lane-wise; there is no horizontal step. Scores are [keys][lanes]; the
//! output accumulates as oᵀ [Dv][lanes], loaded and stored once per tile of at most 64 keys.

use super::call::Work;
use super::keys::{tiles_of, KeyRange, TILE};
use crate::simd::{exp2, Simd};
use crate::{simd_dispatch, Cpu};
use std::cell::RefCell;

/// Stands for "no key yet": finite, so that differences of two of them are 0 and not NaN.
const NONE: f32 = -1e30;
/// Most vectors that share the loads of a key.
const MOST_VECTORS: usize = 4;
/// Keys per register block are at most this; the score buffer is padded by as many rows.
const MOST_KEYS: usize = 16;

/// Lane contents of one pass: (query head, query index of the call).
type Lanes = Vec<(usize, usize)>;

#[derive(Default)]
struct Buffers {
    keys: Vec<f32>,
    values: Vec<f32>,
    queries: Vec<f32>,
    scores: Vec<f32>,
    output: Vec<f32>,
    ranges: Vec<KeyRange>,
    tiles: Vec<KeyRange>,
}

thread_local! {
    /// Tiles and accumulators of this thread, kept between work items.
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// Computes and writes every row of the item.
pub fn attend(cpu: Cpu, work: &Work) {
    let group = work.shape.group();
    let heads = work.kv_head * group..(work.kv_head + 1) * group;
    let lanes = lane_count(cpu);
    BUFFERS.with_borrow_mut(|buffers| {
        let mut index = work.first;
        let end = work.first + work.count;
        while index < end {
            let count = work.ranges.uniform(index, end - index);
            if work.ranges.shared(heads.clone()) {
                pass(cpu, work, heads.clone(), index, count, lanes, buffers);
            } else {
                for head in heads.clone() {
                    pass(cpu, work, head..head + 1, index, count, lanes, buffers);
                }
            }
            index += count;
        }
    });
}

fn lane_count(cpu: Cpu) -> usize {
    match cpu {
        Cpu::Avx512 => 16,
        Cpu::Avx2 => 8,
        _ => 1,
    }
}

/// Some heads × some positions that see one list of ranges, in groups of at most [`MOST_VECTORS`] vectors.
fn pass(cpu: Cpu, work: &Work, heads: std::ops::Range<usize>, first: usize, count: usize, lanes: usize, buffers: &mut Buffers) {
    let positions = (work.position(first), work.position(first + count - 1));
    let mut ranges = std::mem::take(&mut buffers.ranges);
    work.ranges
        .of_block(work.batch, heads.start, first, count, positions, work.length_k, &mut ranges);
    let mut tiles = std::mem::take(&mut buffers.tiles);
    tiles_of(&ranges, &mut tiles);
    let pairs: Lanes = heads
        .flat_map(|head| (first..first + count).map(move |index| (head, index)))
        .collect();
    let vectors = if lanes == 8 { 2 } else { MOST_VECTORS };
    // Three vectors of 16 lanes use the registers better than four: prefer them when they suffice.
    let vectors = if lanes == 16 && pairs.len() <= 48 { 3 } else { vectors };
    for chunk in pairs.chunks(vectors * lanes) {
        let needed = chunk.len().div_ceil(lanes);
        run_chunk(cpu, work, &tiles, chunk, needed, buffers);
    }
    buffers.ranges = ranges;
    buffers.tiles = tiles;
}

fn run_chunk(cpu: Cpu, work: &Work, tiles: &[KeyRange], lanes: &[(usize, usize)], vectors: usize, buffers: &mut Buffers) {
    simd_dispatch!(cpu, chunk(work: &Work, tiles: &[KeyRange], lanes: &[(usize, usize)], vectors: usize, buffers: &mut Buffers));
}

/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn chunk<S: Simd>(work: &Work, tiles: &[KeyRange], lanes: &[(usize, usize)], vectors: usize, buffers: &mut Buffers) {
    // SAFETY: the caller's promise. Registers: keys × vectors accumulators, the vectors of q, one broadcast.
    unsafe {
        match (vectors, S::LANES) {
            (1, 16) => body::<S, 1, 16, 8>(work, tiles, lanes, buffers),
            (2, 16) => body::<S, 2, 12, 8>(work, tiles, lanes, buffers),
            (3, 16) => body::<S, 3, 8, 8>(work, tiles, lanes, buffers),
            (4, 16) => body::<S, 4, 6, 6>(work, tiles, lanes, buffers),
            (1, 8) => body::<S, 1, 8, 8>(work, tiles, lanes, buffers),
            (2, 8) => body::<S, 2, 6, 4>(work, tiles, lanes, buffers),
            (1, _) => body::<S, 1, 4, 4>(work, tiles, lanes, buffers),
            (2, _) => body::<S, 2, 4, 4>(work, tiles, lanes, buffers),
            (3, _) => body::<S, 3, 2, 2>(work, tiles, lanes, buffers),
            _ => body::<S, 4, 2, 2>(work, tiles, lanes, buffers),
        }
    }
}

/// NV vectors of lanes, KU keys and CU channels per register block.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn body<S: Simd, const NV: usize, const KU: usize, const CU: usize>(
    work: &Work,
    tiles: &[KeyRange],
    lanes: &[(usize, usize)],
    buffers: &mut Buffers,
) {
    let shape = work.shape;
    let (dim, value_dim, width) = (shape.dim, shape.value_dim, NV * S::LANES);
    let Buffers {
        keys,
        values,
        queries,
        scores,
        output,
        ..
    } = buffers;
    let grow = |buffer: &mut Vec<f32>, length: usize| {
        if buffer.len() < length {
            buffer.resize(length, 0.0);
        }
    };
    grow(keys, (TILE + MOST_KEYS) * dim);
    grow(values, TILE * value_dim);
    grow(scores, (TILE + MOST_KEYS) * width);
    queries.clear();
    queries.resize(dim * width, 0.0);
    output.clear();
    output.resize(value_dim * width, 0.0);
    let mut positions = [i64::MIN; MOST_VECTORS * 16];
    for (lane, &(head, index)) in lanes.iter().enumerate() {
        positions[lane] = work.position(index);
        let row = shape.row(work.batch, head, index) * dim;
        for (channel, &value) in work.q[row..row + dim].iter().enumerate() {
            queries[channel * width + lane] = value * shape.query_scale;
        }
    }
    // SAFETY: every pointer below stays within buffers that were sized above: keys (TILE + MOST_KEYS) · dim, scores
    // (TILE + MOST_KEYS) · width with KU ≤ MOST_KEYS, queries dim · width, output value_dim · width, values TILE · value_dim.
    unsafe {
        let mut largest = [S::splat(NONE); NV];
        let mut sums = [S::splat(0.0); NV];
        for tile in tiles {
            let (from, count, tested) = (tile.start, tile.end - tile.start, tile.tested);
            work.source.load_tile(work.batch, work.kv_head, from, count, keys, values);
            multiply_keys::<S, NV, KU>(keys, queries, dim, count, scores);
            if shape.softcap > 0.0 {
                cap_scores(&mut scores[..count * width], shape.softcap);
            }
            let mut bits = [[u32::MAX; NV]; TILE];
            let mut hidden = false;
            if tested {
                hidden = mask_bits::<S, NV>(work, &positions, from, count, &mut bits);
            }
            if hidden {
                for (key, bits) in bits.iter().enumerate().take(count) {
                    for (vector, &bits) in bits.iter().enumerate() {
                        let at = scores.as_mut_ptr().add(key * width + vector * S::LANES);
                        S::store(at, S::select(bits, S::load(at), S::splat(NONE)));
                    }
                }
            }
            let mut alpha = [S::splat(1.0); NV];
            for vector in 0..NV {
                let at = scores.as_mut_ptr().add(vector * S::LANES);
                let mut top = largest[vector];
                for key in 0..count {
                    top = S::max(S::load(at.add(key * width)), top);
                }
                alpha[vector] = exp2::<S>(S::max(S::splat(-200.0), S::sub(largest[vector], top)));
                largest[vector] = top;
                let mut sum = S::mul(sums[vector], alpha[vector]);
                for key in 0..count {
                    let p = at.add(key * width);
                    let mut probability = exp2::<S>(S::max(S::splat(-200.0), S::sub(S::load(p), top)));
                    if hidden {
                        probability = S::select(bits[key][vector], probability, S::splat(0.0));
                    }
                    sum = S::add(sum, probability);
                    S::store(p, probability);
                }
                sums[vector] = sum;
            }
            // 0 · NaN is NaN: values that are not finite must not reach lanes that do not see their key.
            let guarded = hidden && values[..count * value_dim].iter().fold(0.0, |sum, value| sum + value * 0.0) != 0.0;
            if guarded {
                add_values::<S, NV, CU, true>(scores, values, value_dim, count, &alpha, &bits, output);
            } else {
                add_values::<S, NV, CU, false>(scores, values, value_dim, count, &alpha, &bits, output);
            }
        }
        let mut tops = [0f32; MOST_VECTORS * 16];
        let mut totals = [0f32; MOST_VECTORS * 16];
        for vector in 0..NV {
            S::store(tops.as_mut_ptr().add(vector * S::LANES), largest[vector]);
            S::store(totals.as_mut_ptr().add(vector * S::LANES), sums[vector]);
        }
        for (lane, &(head, index)) in lanes.iter().enumerate() {
            work.finish(head, index, tops[lane], totals[lane], |channel| {
                output[channel * width + lane]
            });
        }
    }
}

/// scores[key][lane] = Σ_d k[key][d] · q[d][lane], d ascending.
///
/// # Safety
/// Buffers as sized by [`body`].
#[inline(always)]
unsafe fn multiply_keys<S: Simd, const NV: usize, const KU: usize>(
    keys: &[f32],
    queries: &[f32],
    dim: usize,
    count: usize,
    scores: &mut [f32],
) {
    let width = NV * S::LANES;
    let (k, q, s) = (keys.as_ptr(), queries.as_ptr(), scores.as_mut_ptr());
    let mut key = 0;
    while key < count {
        // SAFETY: rows up to count + KU ≤ TILE + MOST_KEYS exist; those from `count` on are scratch.
        unsafe {
            let mut sums = [[S::splat(0.0); NV]; KU];
            let mut query = [S::splat(0.0); NV];
            for channel in 0..dim {
                for vector in 0..NV {
                    query[vector] = S::load(q.add(channel * width + vector * S::LANES));
                }
                for (unit, sums) in sums.iter_mut().enumerate() {
                    let element = S::splat(*k.add((key + unit) * dim + channel));
                    for vector in 0..NV {
                        sums[vector] = S::fma(element, query[vector], sums[vector]);
                    }
                }
            }
            for (unit, sums) in sums.iter().enumerate() {
                for (vector, &sum) in sums.iter().enumerate() {
                    S::store(s.add((key + unit) * width + vector * S::LANES), sum);
                }
            }
        }
        key += KU;
    }
}

/// output[d][lane] = output · alpha + Σ_key p[key][lane] · v[key][d], keys ascending.
///
/// # Safety
/// Buffers as sized by [`body`].
#[inline(always)]
unsafe fn add_values<S: Simd, const NV: usize, const CU: usize, const GUARDED: bool>(
    scores: &[f32],
    values: &[f32],
    value_dim: usize,
    count: usize,
    alpha: &[S::V; NV],
    bits: &[[u32; NV]; TILE],
    output: &mut [f32],
) {
    let mut channel = 0;
    // SAFETY: channels below value_dim, keys below count.
    unsafe {
        while channel + CU <= value_dim {
            add_channels::<S, NV, CU, GUARDED>(scores, values, value_dim, channel, count, alpha, bits, output);
            channel += CU;
        }
        while channel < value_dim {
            add_channels::<S, NV, 1, GUARDED>(scores, values, value_dim, channel, count, alpha, bits, output);
            channel += 1;
        }
    }
}

/// # Safety
/// Buffers as sized by [`body`].
#[inline(always)]
unsafe fn add_channels<S: Simd, const NV: usize, const CU: usize, const GUARDED: bool>(
    scores: &[f32],
    values: &[f32],
    value_dim: usize,
    channel: usize,
    count: usize,
    alpha: &[S::V; NV],
    bits: &[[u32; NV]; TILE],
    output: &mut [f32],
) {
    let width = NV * S::LANES;
    // SAFETY: as for `add_values`.
    unsafe {
        let o = output.as_mut_ptr().add(channel * width);
        let mut sums = [[S::splat(0.0); NV]; CU];
        for (unit, sums) in sums.iter_mut().enumerate() {
            for vector in 0..NV {
                sums[vector] = S::mul(S::load(o.add(unit * width + vector * S::LANES)), alpha[vector]);
            }
        }
        let mut p = [S::splat(0.0); NV];
        for key in 0..count {
            for vector in 0..NV {
                p[vector] = S::load(scores.as_ptr().add(key * width + vector * S::LANES));
            }
            for (unit, sums) in sums.iter_mut().enumerate() {
                let value = S::splat(*values.as_ptr().add(key * value_dim + channel + unit));
                for vector in 0..NV {
                    let sum = S::fma(p[vector], value, sums[vector]);
                    sums[vector] = if GUARDED {
                        S::select(bits[key][vector], sum, sums[vector])
                    } else {
                        sum
                    };
                }
            }
        }
        for (unit, sums) in sums.iter().enumerate() {
            for (vector, &sum) in sums.iter().enumerate() {
                S::store(o.add(unit * width + vector * S::LANES), sum);
            }
        }
    }
}

fn cap_scores(scores: &mut [f32], cap: f32) {
    for score in scores {
        *score = cap * (*score / cap).tanh() * std::f32::consts::LOG2_E;
    }
}

/// Per key and vector, which lanes see the key; returns whether any lane does not.
#[inline(always)]
fn mask_bits<S: Simd, const NV: usize>(
    work: &Work,
    positions: &[i64; MOST_VECTORS * 16],
    from: usize,
    count: usize,
    bits: &mut [[u32; NV]; TILE],
) -> bool {
    let (causal, window) = (work.ranges.causal(), work.ranges.window() as i64);
    let mut hidden = false;
    for key in 0..count {
        let at = (from + key) as i64;
        for vector in 0..NV {
            let mut seen = 0u32;
            for lane in 0..S::LANES {
                let position = positions[vector * S::LANES + lane];
                let visible = position != i64::MIN && (!causal || at <= position) && (window == 0 || position - at < window);
                seen |= u32::from(visible) << lane;
            }
            hidden |= seen.count_ones() as usize != S::LANES;
            bits[key][vector] = seen;
        }
    }
    hidden
}
