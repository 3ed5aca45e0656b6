//! Many rows: queries in lanes. qᵀ is [D][lanes] with the scale folded in, a key element is a broadcast from its row. Maximum, sum, mask
//! and rescaling are lane-wise; there is no horizontal step. Scores are [keys][lanes]; the output accumulates as oᵀ [Dv][lanes], loaded and
//! stored once per tile of at most 64 keys.
//!
//! The rows of a pass are cut into chunks of as many lanes as the registers hold. A tile is brought in once for all of them: f32 keys and
//! values are read where they lie, f16 ones are widened, and bfloat16 is rounded and packed.

use super::ahead::Ahead;
use super::arithmetic::{pack_rows, Arithmetic, Floats, Rounded};
use super::bias::TileBias;
use super::block::{Buffers, Query};
use super::chunk::{cut, Chunk, MOST_LANES, MOST_VECTORS};
use super::list::{List, Visit, TILE};
use super::partial::{merge_lanes, NONE};
use super::scores::{keep_most, leave_out};
use super::tile::{self, Tile};
use super::work::Work;
use crate::simd::Simd;
use crate::{simd_dispatch, Cpu};

/// Computes the rows of a pass.
pub fn run(cpu: Cpu, work: &Work, list: &List, queries: &[Query], buffers: &mut Buffers) {
    if !work.shape.bf16 {
        simd_dispatch!(cpu, floats(work: &Work, list: &List, queries: &[Query], buffers: &mut Buffers));
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if cpu == Cpu::Avx512 && is_x86_feature_detected!("avx512bf16") {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")]
        unsafe fn pairs(work: &Work, list: &List, queries: &[Query], buffers: &mut Buffers) {
            // SAFETY: this function carries the features.
            unsafe { rows::<super::arithmetic::Pairs>(work, list, queries, buffers) }
        }
        // SAFETY: the features were detected.
        unsafe { pairs(work, list, queries, buffers) };
        return;
    }
    simd_dispatch!(cpu, rounded(work: &Work, list: &List, queries: &[Query], buffers: &mut Buffers));
}

/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn floats<S: Simd>(work: &Work, list: &List, queries: &[Query], buffers: &mut Buffers) {
    // SAFETY: the caller's promise.
    unsafe { rows::<Floats<S>>(work, list, queries, buffers) }
}

/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn rounded<S: Simd>(work: &Work, list: &List, queries: &[Query], buffers: &mut Buffers) {
    // SAFETY: the caller's promise.
    unsafe { rows::<Rounded<S>>(work, list, queries, buffers) }
}

/// Running results of the lanes of a pass: o [Dv][lanes of a chunk], maxima and sums; of the segment, and of the segments before.
struct State<'a> {
    output: &'a mut [f32],
    total: &'a mut [f32],
    /// Per lane: the segment's maximum and sum, those of all segments.
    largest: &'a mut [f32],
    sums: &'a mut [f32],
    tops: &'a mut [f32],
    totals: &'a mut [f32],
    /// Per lane: the greatest score so far, where tiles are left out by it. Maxima of bfloat16 are rounded up.
    reached: &'a mut [f32],
}

/// # Safety
/// As for [`Arithmetic`].
#[inline(always)]
unsafe fn rows<A: Arithmetic>(work: &Work, list: &List, queries: &[Query], buffers: &mut Buffers) {
    let shape = work.shape;
    let Buffers {
        keys,
        values,
        queries: q,
        scores,
        output,
        total,
        stats,
        chunks,
        ..
    } = buffers;
    // 16 registers hold two vectors × six keys, 32 hold three × eight; four × four are better than three and one.
    let (best, most) = if A::S::LANES == 8 { (2, 2) } else { (3, MOST_VECTORS) };
    cut(work, queries, A::S::LANES, (best, most), chunks);
    let lanes = chunks.last().map_or(0, |chunk| chunk.lane + chunk.vectors * A::S::LANES);
    let keys = keys.of((TILE + tile::PADDING) * shape.dim);
    let values = values.of(TILE * shape.value_dim);
    let scores = scores.of((TILE + tile::PADDING) * MOST_LANES);
    let q = q.of(shape.dim * lanes);
    let (largest, rest) = stats.of(5 * lanes).split_at_mut(lanes);
    let (sums, rest) = rest.split_at_mut(lanes);
    let (tops, rest) = rest.split_at_mut(lanes);
    let (totals, reached) = rest.split_at_mut(lanes);
    let mut state = State {
        output: output.of(shape.value_dim * lanes),
        total: total.of(shape.value_dim * lanes),
        largest,
        sums,
        tops,
        totals,
        reached,
    };
    state.total.fill(0.0);
    state.reached.fill(NONE);
    state.tops.fill(NONE);
    state.totals.fill(0.0);
    // SAFETY: the caller's promise; buffers are sized for all chunks.
    unsafe {
        for chunk in chunks.iter() {
            pack_queries::<A>(work, &queries[chunk.rows.clone()], chunk, &mut q[chunk.lane * shape.dim..]);
        }
        let mut coming = list.visits.iter().skip(1);
        let (mut spans, mut values_ahead) = (vec![], vec![]);
        for visits in list.visits.chunk_by(|a, b| a.segment() == b.segment()) {
            state.output.fill(0.0);
            state.largest.fill(NONE);
            state.sums.fill(0.0);
            for visit in visits {
                let at = (work.batch, work.kv_head);
                spans.clear();
                if let Some(next) = coming.next() {
                    work.source
                        .spans(at, &list.pieces[next.pieces.clone()], &mut spans, &mut values_ahead);
                    spans.append(&mut values_ahead);
                }
                // The first chunk of the tile asks for the tile behind, one line for every key and channel's worth of products.
                let mut ahead = Ahead::new(&spans, visit.count.div_ceil(8) * shape.dim);
                let tile = work.source.tile::<A>(at, visit, list, tile::PADDING, keys, values);
                let bias = work.source.tile_bias(at, &list.pieces[visit.pieces.clone()]);
                for chunk in chunks.iter() {
                    if chunk.reaches(visit, list) {
                        visit_tile::<A>(
                            work,
                            (visit, list),
                            (&tile, bias.as_ref(), &ahead),
                            chunk,
                            q,
                            scores,
                            &mut state,
                        );
                        ahead = Ahead::nothing();
                    }
                }
            }
            for chunk in chunks.iter() {
                end_segment::<A::S>(work, queries, visits[0].segment(), chunk, &mut state);
            }
        }
        if work.segments().is_none() {
            for chunk in chunks.iter() {
                finish::<A::S>(work, &queries[chunk.rows.clone()], chunk, &mut state);
            }
        }
    }
}

/// True when the vector of rows is one head at positions that follow each other.
fn in_line(rows: &[Query]) -> bool {
    matches!((rows.first(), rows.last()), (Some(first), Some(last)) if first.0 == last.0 && last.1 - first.1 + 1 == rows.len())
}

/// qᵀ [D][lanes of the chunk]: scaled, or in words of bfloat16.
///
/// # Safety
/// As for [`Arithmetic`]; `q` has room for the chunk.
#[inline(always)]
pub unsafe fn pack_queries<A: Arithmetic>(work: &Work, rows: &[Query], chunk: &Chunk, q: &mut [f32]) {
    let (shape, width) = (work.shape, chunk.vectors * A::S::LANES);
    let q = &mut q[..shape.dim * width];
    for (vector, rows) in rows.chunks(A::S::LANES).enumerate() {
        let straight = rows.len() == A::S::LANES && shape.dim.is_multiple_of(A::S::LANES) && in_line(rows);
        if straight {
            let from = shape.row(work.batch, rows[0].0, rows[0].1) * shape.dim;
            let stride = shape.position_stride * shape.dim;
            let source = &work.q[from..from + (A::S::LANES - 1) * stride + shape.dim];
            for channel in (0..shape.dim).step_by(A::S::LANES) {
                // SAFETY: LANES rows of `source`, `stride` apart, have `dim` elements each; LANES divides `dim`.
                unsafe {
                    let to = q.as_mut_ptr().add(channel * width + vector * A::S::LANES);
                    A::S::transpose(source.as_ptr().add(channel), stride, to, width);
                }
            }
            continue;
        }
        for channel in 0..shape.dim {
            q[channel * width + vector * A::S::LANES..][..A::S::LANES].fill(0.0);
        }
        for (lane, &(head, index)) in rows.iter().enumerate() {
            let from = shape.row(work.batch, head, index) * shape.dim;
            for (channel, &value) in work.q[from..from + shape.dim].iter().enumerate() {
                q[channel * width + vector * A::S::LANES + lane] = value;
            }
        }
    }
    if A::BF16 {
        let words = q.as_mut_ptr();
        // SAFETY: a word lies no further than the numbers it is made of.
        unsafe { pack_rows::<A>(words, shape.dim, width, words) };
        return;
    }
    for at in (0..q.len()).step_by(A::S::LANES) {
        // SAFETY: LANES divides the length.
        unsafe {
            let p = q.as_mut_ptr().add(at);
            A::S::store(p, A::S::mul(A::S::load(p), A::S::splat(shape.query_scale)));
        }
    }
}

/// # Safety
/// As for [`Arithmetic`]; buffers as sized by [`rows`].
#[inline(always)]
unsafe fn visit_tile<A: Arithmetic>(
    work: &Work,
    visit: (&Visit, &List),
    tile: (&Tile, Option<&TileBias>, &Ahead),
    chunk: &Chunk,
    q: &[f32],
    scores: &mut [f32],
    state: &mut State,
) {
    // SAFETY: the caller's promise. Registers: keys (channels) × vectors accumulators, the vectors of q (p), one broadcast.
    unsafe {
        match (chunk.vectors, A::S::LANES) {
            (1, 16 | 4) => visit_lanes::<A, 1, 16, 16>(work, visit, tile, chunk, q, scores, state),
            (2, 16 | 4) => visit_lanes::<A, 2, 8, 8>(work, visit, tile, chunk, q, scores, state),
            (3, 16 | 4) => visit_lanes::<A, 3, 8, 8>(work, visit, tile, chunk, q, scores, state),
            (4, 16) => visit_lanes::<A, 4, 6, 6>(work, visit, tile, chunk, q, scores, state),
            (4, 4) => visit_lanes::<A, 4, 4, 4>(work, visit, tile, chunk, q, scores, state),
            (1, 8) => visit_lanes::<A, 1, 8, 8>(work, visit, tile, chunk, q, scores, state),
            (2, 8) => visit_lanes::<A, 2, 6, 6>(work, visit, tile, chunk, q, scores, state),
            (1, _) => visit_lanes::<A, 1, 4, 4>(work, visit, tile, chunk, q, scores, state),
            (2, _) => visit_lanes::<A, 2, 4, 4>(work, visit, tile, chunk, q, scores, state),
            (3, _) => visit_lanes::<A, 3, 2, 2>(work, visit, tile, chunk, q, scores, state),
            _ => visit_lanes::<A, 4, 2, 2>(work, visit, tile, chunk, q, scores, state),
        }
    }
}

/// NV vectors of lanes, KU keys and CU channels per register block.
///
/// # Safety
/// As for [`visit_tile`].
#[inline(always)]
unsafe fn visit_lanes<A: Arithmetic, const NV: usize, const KU: usize, const CU: usize>(
    work: &Work,
    visit: (&Visit, &List),
    (tile, bias, ahead): (&Tile, Option<&TileBias>, &Ahead),
    chunk: &Chunk,
    q: &[f32],
    scores: &mut [f32],
    state: &mut State,
) {
    let (shape, width) = (work.shape, NV * A::S::LANES);
    let (visit, list) = visit;
    let count = visit.count;
    let q = &q[chunk.lane * shape.dim..][..shape.dim * width];
    let output = &mut state.output[chunk.lane * shape.value_dim..][..shape.value_dim * width];
    let (largest, sums) = (
        &mut state.largest[chunk.lane..][..width],
        &mut state.sums[chunk.lane..][..width],
    );
    let mut bits = [[u32::MAX; NV]; TILE];
    let mut hidden = chunk.mask(work, A::S::LANES, visit, list, &mut bits);
    // SAFETY: the slices have the lengths the functions ask for; the tile is padded.
    unsafe {
        tile::multiply_keys::<A, NV, KU>(tile, q, shape.query_scale, scores, ahead);
        if shape.softcap > 0.0 {
            tile::cap_scores(&mut scores[..count * width], shape.softcap);
        }
        if let Some(bias) = bias {
            hidden |= bias.add_to_lanes::<A::S, NV>(scores, count, &mut bits);
        }
        if let Some(most) = shape.most {
            keep_most::<A::S, NV>(work, chunk, (visit, list), most, scores, &mut bits);
            hidden = true;
        }
        if let Some(skip) = shape.skip {
            let reached = &mut state.reached[chunk.lane..][..width];
            let (left, any) = leave_out::<A::S, NV>(scores, count, skip, reached, &mut bits);
            if !any {
                return;
            }
            hidden |= left;
        }
        let alpha = if hidden {
            tile::normalize::<A, NV, true>(scores, count, &bits, largest, sums)
        } else {
            tile::normalize::<A, NV, false>(scores, count, &bits, largest, sums)
        };
        // 0 · NaN is NaN: values that are not finite must not reach lanes that do not see their key.
        if hidden && !tile.finite_values::<A>() {
            tile::add_values::<A, NV, CU, true>(tile, scores, &alpha, &bits, output);
        } else {
            tile::add_values::<A, NV, CU, false>(tile, scores, &alpha, &bits, output);
        }
    }
}

/// Merges the segment's results into the rows', or hands them over where other work items sum the other segments.
///
/// # Safety
/// As for [`Simd`]; buffers as sized by [`rows`].
#[inline(always)]
unsafe fn end_segment<S: Simd>(work: &Work, queries: &[Query], segment: usize, chunk: &Chunk, state: &mut State) {
    let (value_dim, width) = (work.shape.value_dim, chunk.vectors * S::LANES);
    let lanes = chunk.lane..chunk.lane + width;
    let output = &state.output[chunk.lane * value_dim..][..value_dim * width];
    if work.segments().is_some() {
        for (lane, &query) in queries[chunk.rows.clone()].iter().enumerate() {
            let at = chunk.lane + lane;
            work.leave(query, segment, state.largest[at], state.sums[at], |channel| {
                output[channel * width + lane]
            });
        }
        return;
    }
    let total = &mut state.total[chunk.lane * value_dim..][..value_dim * width];
    // SAFETY: the caller's promise; every slice has `width` lanes (per channel).
    unsafe {
        merge_lanes::<S>(
            &state.largest[lanes.clone()],
            &state.sums[lanes.clone()],
            output,
            &mut state.tops[lanes.clone()],
            &mut state.totals[lanes],
            total,
        );
    }
}

/// Divides by the sums and hands the rows over.
///
/// # Safety
/// As for [`Simd`]; buffers as sized by [`rows`].
#[inline(always)]
unsafe fn finish<S: Simd>(work: &Work, rows: &[Query], chunk: &Chunk, state: &mut State) {
    let (value_dim, width) = (work.shape.value_dim, chunk.vectors * S::LANES);
    let total = &mut state.total[chunk.lane * value_dim..][..value_dim * width];
    for (vector, rows) in rows.chunks(S::LANES).enumerate() {
        let first = chunk.lane + vector * S::LANES;
        let (tops, totals) = (&state.tops[first..][..S::LANES], &state.totals[first..][..S::LANES]);
        let seen = totals.iter().all(|&total| total != 0.0);
        if rows.len() == S::LANES && value_dim.is_multiple_of(S::LANES) && seen && in_line(rows) {
            // SAFETY: the vector's lanes of every channel lie in `total`; the rows are this work item's.
            unsafe {
                let inverse = S::div(S::splat(1.0), S::load(totals.as_ptr()));
                let from = total.as_mut_ptr().add(vector * S::LANES);
                for channel in 0..value_dim {
                    let p = from.add(channel * width);
                    S::store(p, S::mul(S::load(p), inverse));
                }
                work.finish_lanes::<S>(rows[0], tops, totals, from, width);
            }
            continue;
        }
        for (lane, &query) in rows.iter().enumerate() {
            work.finish(query, tops[lane], totals[lane], |channel| {
                total[channel * width + vector * S::LANES + lane]
            });
        }
    }
}
