//! Many rows: queries in lanes. qᵀ is [D][lanes] with the scale folded in, a key element is a broadcast from its row. Maximum, sum, mask
//! and rescaling are lane-wise; there is no horizontal step. Scores are [keys][lanes]; the output accumulates as oᵀ [Dv][lanes], loaded and
//! stored once per tile of at most 64 keys.

use super::block::{grow, Buffers, Query};
use super::call::Work;
use super::keys::{Visit, TILE};
use super::partial::{factors, NONE};
use crate::simd::{exp2, Simd};
use crate::{simd_dispatch, Cpu};

/// Most vectors that share the loads of a key.
pub const MOST_VECTORS: usize = 4;
/// Most lanes of a call.
const MOST_LANES: usize = 16 * MOST_VECTORS;
/// Keys per register block are at most this; the score buffer is padded by as many rows.
const MOST_KEYS: usize = 16;

/// Rows of at most `vectors` vectors of lanes.
pub fn run(cpu: Cpu, work: &Work, visits: &[Visit], queries: &[Query], vectors: usize, buffers: &mut Buffers) {
    simd_dispatch!(cpu, chunk(work: &Work, visits: &[Visit], queries: &[Query], vectors: usize, buffers: &mut Buffers));
}

/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn chunk<S: Simd>(work: &Work, visits: &[Visit], queries: &[Query], vectors: usize, buffers: &mut Buffers) {
    // SAFETY: the caller's promise. Registers: keys × vectors accumulators, the vectors of q, one broadcast.
    unsafe {
        match (vectors, S::LANES) {
            (1, 16) => body::<S, 1, 16, 8>(work, visits, queries, buffers),
            (2, 16) => body::<S, 2, 12, 8>(work, visits, queries, buffers),
            (3, 16) => body::<S, 3, 8, 8>(work, visits, queries, buffers),
            (4, 16) => body::<S, 4, 6, 6>(work, visits, queries, buffers),
            (1, 8) => body::<S, 1, 8, 8>(work, visits, queries, buffers),
            (2, 8) => body::<S, 2, 6, 4>(work, visits, queries, buffers),
            (1, _) => body::<S, 1, 4, 4>(work, visits, queries, buffers),
            (2, _) => body::<S, 2, 4, 4>(work, visits, queries, buffers),
            (3, _) => body::<S, 3, 2, 2>(work, visits, queries, buffers),
            _ => body::<S, 4, 2, 2>(work, visits, queries, buffers),
        }
    }
}

/// The keys each lane may see, by causality and window; lanes without a query see everything, and nobody reads them.
struct Bounds {
    low: [i64; MOST_LANES],
    high: [i64; MOST_LANES],
    /// What every lane sees.
    common: (i64, i64),
}

impl Bounds {
    fn of(work: &Work, queries: &[Query]) -> Self {
        let mut bounds = Self {
            low: [i64::MIN; MOST_LANES],
            high: [i64::MAX; MOST_LANES],
            common: (i64::MIN, i64::MAX),
        };
        for (lane, &(_, index)) in queries.iter().enumerate() {
            let (low, high) = work.bounds(index);
            bounds.low[lane] = low;
            bounds.high[lane] = high;
            bounds.common = (bounds.common.0.max(low), bounds.common.1.min(high));
        }
        bounds
    }

    /// Per key and vector, which lanes see the key; returns whether any lane does not.
    #[inline(always)]
    fn mask<const NV: usize>(&self, lanes: usize, visit: &Visit, bits: &mut [[u32; NV]; TILE]) -> bool {
        let all = visit.all();
        if visit.seen(self.common.0, self.common.1) == all {
            return false;
        }
        let count = visit.end - visit.start;
        for bits in bits.iter_mut().take(count) {
            *bits = [0; NV];
        }
        for vector in 0..NV {
            for lane in 0..lanes {
                let at = vector * lanes + lane;
                let seen = visit.seen(self.low[at], self.high[at]);
                for (key, bits) in bits.iter_mut().enumerate().take(count) {
                    bits[vector] |= ((seen >> key) as u32 & 1) << lane;
                }
            }
        }
        true
    }
}

/// NV vectors of lanes, KU keys and CU channels per register block.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn body<S: Simd, const NV: usize, const KU: usize, const CU: usize>(
    work: &Work,
    visits: &[Visit],
    rows: &[Query],
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
        total,
        ..
    } = buffers;
    grow(keys, (TILE + MOST_KEYS) * dim);
    grow(values, TILE * value_dim);
    grow(scores, (TILE + MOST_KEYS) * width);
    grow(queries, dim * width);
    grow(output, value_dim * width);
    grow(total, value_dim * width);
    queries[..dim * width].fill(0.0);
    for (lane, &(head, index)) in rows.iter().enumerate() {
        let row = shape.row(work.batch, head, index) * dim;
        for (channel, &value) in work.q[row..row + dim].iter().enumerate() {
            queries[channel * width + lane] = value * shape.query_scale;
        }
    }
    let bounds = Bounds::of(work, rows);
    let mut tops = [NONE; MOST_LANES];
    let mut totals = [0f32; MOST_LANES];
    total[..value_dim * width].fill(0.0);
    for visits in visits.chunk_by(|a, b| a.segment() == b.segment()) {
        output[..value_dim * width].fill(0.0);
        // SAFETY: every pointer below stays within buffers that were sized above: keys (TILE + MOST_KEYS) · dim, scores
        // (TILE + MOST_KEYS) · width with KU ≤ MOST_KEYS, queries dim · width, output value_dim · width, values TILE · value_dim.
        unsafe {
            let mut largest = [S::splat(NONE); NV];
            let mut sums = [S::splat(0.0); NV];
            for visit in visits {
                let count = visit.end - visit.start;
                work.source
                    .load_tile::<S>(work.batch, work.kv_head, visit.start, count, keys, values);
                multiply_keys::<S, NV, KU>(keys, queries, dim, count, scores);
                if shape.softcap > 0.0 {
                    cap_scores(&mut scores[..count * width], shape.softcap);
                }
                let mut bits = [[u32::MAX; NV]; TILE];
                let hidden = bounds.mask(S::LANES, visit, &mut bits);
                let alpha = if hidden {
                    normalize::<S, NV, true>(scores, count, &bits, &mut largest, &mut sums)
                } else {
                    normalize::<S, NV, false>(scores, count, &bits, &mut largest, &mut sums)
                };
                // 0 · NaN is NaN: values that are not finite must not reach lanes that do not see their key.
                if hidden && !all_finite(&values[..count * value_dim]) {
                    add_values::<S, NV, CU, true>(scores, values, value_dim, count, &alpha, &bits, output);
                } else {
                    add_values::<S, NV, CU, false>(scores, values, value_dim, count, &alpha, &bits, output);
                }
            }
            if work.segments().is_some() {
                let (mut m, mut s) = ([0f32; MOST_LANES], [0f32; MOST_LANES]);
                for vector in 0..NV {
                    S::store(m.as_mut_ptr().add(vector * S::LANES), largest[vector]);
                    S::store(s.as_mut_ptr().add(vector * S::LANES), sums[vector]);
                }
                for (lane, &query) in rows.iter().enumerate() {
                    let segment = visits[0].segment();
                    work.leave(query, segment, m[lane], s[lane], |channel| output[channel * width + lane]);
                }
                continue;
            }
            merge::<S, NV>(&largest, &sums, &output[..value_dim * width], &mut tops, &mut totals, total);
        }
    }
    if work.segments().is_some() {
        return;
    }
    for (lane, &query) in rows.iter().enumerate() {
        work.finish(query, tops[lane], totals[lane], |channel| total[channel * width + lane]);
    }
}

/// True when no value is NaN or ±∞.
pub fn all_finite(values: &[f32]) -> bool {
    values.iter().fold(0.0, |sum, value| sum + value * 0.0) == 0.0
}

/// Scores → probabilities relative to the running maximum; keys ascending. Returns the factors of what was summed before.
///
/// # Safety
/// Buffers as sized by [`body`].
#[inline(always)]
unsafe fn normalize<S: Simd, const NV: usize, const HIDDEN: bool>(
    scores: &mut [f32],
    count: usize,
    bits: &[[u32; NV]; TILE],
    largest: &mut [S::V; NV],
    sums: &mut [S::V; NV],
) -> [S::V; NV] {
    let width = NV * S::LANES;
    // SAFETY: keys below count, lanes below width.
    unsafe {
        let mut alpha = [S::splat(1.0); NV];
        for vector in 0..NV {
            let at = scores.as_mut_ptr().add(vector * S::LANES);
            let mut top = largest[vector];
            for key in 0..count {
                let mut score = S::load(at.add(key * width));
                if HIDDEN {
                    score = S::select(bits[key][vector], score, S::splat(NONE));
                }
                top = S::max(score, top);
            }
            alpha[vector] = exp2::<S>(S::max(S::splat(-200.0), S::sub(largest[vector], top)));
            largest[vector] = top;
            let mut sum = S::mul(sums[vector], alpha[vector]);
            for key in 0..count {
                let p = at.add(key * width);
                let mut probability = exp2::<S>(S::max(S::splat(-200.0), S::sub(S::load(p), top)));
                if HIDDEN {
                    probability = S::select(bits[key][vector], probability, S::splat(0.0));
                }
                sum = S::add(sum, probability);
                S::store(p, probability);
            }
            sums[vector] = sum;
        }
        alpha
    }
}

/// Adds a segment's result to the rows', as `partial::Row::merge` does.
///
/// # Safety
/// As for [`Simd`]; `output` and `total` hold [Dv][NV · LANES].
#[inline(always)]
unsafe fn merge<S: Simd, const NV: usize>(
    largest: &[S::V; NV],
    sums: &[S::V; NV],
    output: &[f32],
    tops: &mut [f32; MOST_LANES],
    totals: &mut [f32; MOST_LANES],
    total: &mut [f32],
) {
    let width = NV * S::LANES;
    let (mut m, mut s) = ([0f32; MOST_LANES], [0f32; MOST_LANES]);
    let (mut a, mut b) = ([1f32; MOST_LANES], [0f32; MOST_LANES]);
    let mut seen = [0u32; NV];
    // SAFETY: NV · LANES ≤ MOST_LANES; channels below Dv.
    unsafe {
        for vector in 0..NV {
            S::store(m.as_mut_ptr().add(vector * S::LANES), largest[vector]);
            S::store(s.as_mut_ptr().add(vector * S::LANES), sums[vector]);
        }
        for lane in 0..width {
            if s[lane] == 0.0 {
                continue;
            }
            seen[lane / S::LANES] |= 1 << (lane % S::LANES);
            let top;
            (a[lane], b[lane], top) = factors(tops[lane], m[lane]);
            tops[lane] = top;
            totals[lane] = totals[lane] * a[lane] + s[lane] * b[lane];
        }
        for at in (0..output.len()).step_by(width) {
            for vector in 0..NV {
                let lane = vector * S::LANES;
                let before = S::load(total.as_ptr().add(at + lane));
                let after = S::add(
                    S::mul(before, S::load(a.as_ptr().add(lane))),
                    S::mul(S::load(output.as_ptr().add(at + lane)), S::load(b.as_ptr().add(lane))),
                );
                S::store(total.as_mut_ptr().add(at + lane), S::select(seen[vector], after, before));
            }
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

pub fn cap_scores(scores: &mut [f32], cap: f32) {
    for score in scores {
        *score = cap * (*score / cap).tanh() * std::f32::consts::LOG2_E;
    }
}
