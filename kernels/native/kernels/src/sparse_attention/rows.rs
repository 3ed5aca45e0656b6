//! Few rows, as in decode: keys in lanes for the scores, from a transposed tile; channels in lanes for the values. Every element goes
//! through the operations of `lanes` in the same order, so the bits are the same.
//!
//! Where the keys of a tile lie one behind the other they are read from the cache itself, the tile behind is asked for meanwhile, and f16 is
//! transposed in pairs of channels and widened afterwards: half the shuffles. Values are widened on their way into the multiply-adds.

use super::block::{Buffers, Query};
use super::list::{List, TILE};
use super::partial::{Row, NONE};
use super::tile::{all_finite, cap_scores};
use super::work::Work;
use crate::simd::{exp2_down, Simd};
use crate::{simd_dispatch, Cpu};
use std::cell::Cell;

/// Most rows that share the loads of a tile.
pub const MOST_ROWS: usize = 4;
/// Rows of the transposition that may lie beyond the tile.
const PADDING: usize = 16;

/// At most [`MOST_ROWS`] rows; head dims are multiples of the lanes.
pub fn run(cpu: Cpu, work: &Work, list: &List, queries: &[Query], buffers: &mut Buffers) {
    simd_dispatch!(cpu, chunk(work: &Work, list: &List, queries: &[Query], buffers: &mut Buffers));
}

/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn chunk<S: Simd>(work: &Work, list: &List, queries: &[Query], buffers: &mut Buffers) {
    // SAFETY: the caller's promise. Registers: rows × vectors accumulators, the vectors, one broadcast.
    unsafe {
        match (queries.len(), S::LANES) {
            (1, 16) => body::<S, 1, 4>(work, list, queries, buffers),
            (2, 16) => body::<S, 2, 4>(work, list, queries, buffers),
            (3, 16) => body::<S, 3, 4>(work, list, queries, buffers),
            (_, 16) => body::<S, 4, 4>(work, list, queries, buffers),
            (1, _) => body::<S, 1, 4>(work, list, queries, buffers),
            (2, _) => body::<S, 2, 4>(work, list, queries, buffers),
            (3, _) => body::<S, 3, 2>(work, list, queries, buffers),
            _ => body::<S, 4, 2>(work, list, queries, buffers),
        }
    }
}

/// R rows, G vectors per register block.
///
/// # Safety
/// As for [`Simd`]; `rows` has R elements, LANES divides D, Dv and TILE.
#[inline(always)]
unsafe fn body<S: Simd, const R: usize, const G: usize>(work: &Work, list: &List, rows: &[Query], buffers: &mut Buffers) {
    let shape = work.shape;
    let (dim, value_dim) = (shape.dim, shape.value_dim);
    let Buffers {
        keys,
        values,
        queries,
        scores,
        output,
        total,
        ..
    } = buffers;
    let by_channel = (TILE + PADDING) * dim;
    let keys = keys.of(by_channel + dim * TILE);
    let values = values.of(TILE * value_dim);
    let scores = scores.of(R * TILE);
    let queries = queries.of(R * dim);
    let output = output.of(R * value_dim);
    let total = total.of(R * value_dim);
    for (row, &(head, index)) in rows.iter().enumerate() {
        let from = shape.row(work.batch, head, index) * dim;
        for (out, &value) in queries[row * dim..].iter_mut().zip(&work.q[from..from + dim]) {
            *out = value * shape.query_scale;
        }
    }
    let mut tops = [NONE; R];
    let mut totals = [0f32; R];
    total[..R * value_dim].fill(0.0);
    let mut coming = list.visits.iter().skip(1);
    let (mut ahead_keys, mut ahead_values) = (vec![], vec![]);
    for visits in list.visits.chunk_by(|a, b| a.segment() == b.segment()) {
        let mut largest = [NONE; R];
        let mut sums = [0f32; R];
        output[..R * value_dim].fill(0.0);
        for visit in visits {
            let count = visit.count;
            let mut seen = [0u64; R];
            for (row, &(_, index)) in rows.iter().enumerate() {
                let (low, high) = work.bounds(index);
                seen[row] = visit.seen(list, low, high);
            }
            let hidden = seen.iter().any(|&seen| seen != visit.all());
            let source = work.source;
            // Vectors of keys may reach over the tile's end, into rows that are not looked at.
            let reach = count.next_multiple_of(S::LANES);
            let fits = !source.half || dim.is_multiple_of(2 * S::LANES);
            let at = (work.batch, work.kv_head);
            let direct = source.direct_tile(at, visit, reach).filter(|_| fits && !hidden);
            ahead_keys.clear();
            ahead_values.clear();
            if let Some(next) = coming.next() {
                source.spans(at, &list.pieces[next.pieces.clone()], &mut ahead_keys, &mut ahead_values);
            }
            // SAFETY: every pointer stays within buffers that were sized above; LANES divides the rows they are cut into.
            unsafe {
                let (tile, transposed) = keys.split_at_mut(by_channel);
                if let Some((k, _)) = direct {
                    transpose_keys::<S>(source.half, k, dim, reach, transposed);
                } else {
                    source.load_tile::<S>(at, &list.pieces[visit.pieces.clone()], tile, values);
                    transpose_floats::<S>(tile.as_ptr(), dim, reach, transposed);
                }
                multiply_keys::<S, R, G>(transposed, queries, dim, count, &ahead_keys, scores);
                if shape.softcap > 0.0 {
                    for scores in scores.chunks_exact_mut(TILE).take(R) {
                        cap_scores(&mut scores[..count], shape.softcap);
                    }
                }
                let mut left = false;
                if let Some(skip) = shape.skip {
                    let before = std::array::from_fn(|row| if tops[row] > largest[row] { tops[row] } else { largest[row] });
                    left = leave_out::<S, R>(scores, count, skip, &before, &mut seen);
                    if seen.iter().all(|&seen| seen == 0) {
                        continue;
                    }
                }
                let alpha = normalize::<S, R>(scores, count, &seen, &mut largest, &mut sums);
                let weights = Weights {
                    scores,
                    alpha: &alpha,
                    seen: &seen,
                    count,
                    value_dim,
                    ahead: Ahead::new(&ahead_values, (value_dim / (G * S::LANES)).max(1) * count),
                };
                match direct {
                    // 0 · NaN is NaN: rows that left the tile out must not meet values that are not finite.
                    Some((_, v)) if left && source.half => add_values::<S, R, G, true, true>(&weights, v.as_ptr(), output),
                    Some((_, v)) if left => add_values::<S, R, G, true, false>(&weights, v.as_ptr(), output),
                    Some((_, v)) if source.half => add_values::<S, R, G, false, true>(&weights, v.as_ptr(), output),
                    Some((_, v)) => add_values::<S, R, G, false, false>(&weights, v.as_ptr(), output),
                    None if (hidden || left) && !all_finite(&values[..count * value_dim]) => {
                        add_values::<S, R, G, true, false>(&weights, values.as_ptr().cast(), output)
                    }
                    None => add_values::<S, R, G, false, false>(&weights, values.as_ptr().cast(), output),
                }
            }
        }
        if work.segments().is_some() {
            for (row, &query) in rows.iter().enumerate() {
                let values = &output[row * value_dim..(row + 1) * value_dim];
                work.leave(query, visits[0].segment(), largest[row], sums[row], |channel| values[channel]);
            }
            continue;
        }
        for row in 0..R {
            let mut running = Row {
                largest: tops[row],
                sum: totals[row],
                values: &mut total[row * value_dim..(row + 1) * value_dim],
            };
            running.merge(largest[row], sums[row], &output[row * value_dim..(row + 1) * value_dim]);
            (tops[row], totals[row]) = (running.largest, running.sum);
        }
    }
    if work.segments().is_some() {
        return;
    }
    for (row, &query) in rows.iter().enumerate() {
        let values = &total[row * value_dim..(row + 1) * value_dim];
        work.finish(query, tops[row], totals[row], |channel| values[channel]);
    }
}

/// scores[row][key] = Σ_d kᵀ[d][key] · q[row][d], d ascending; keys rounded up to whole register blocks; keys `ahead` are asked for.
///
/// # Safety
/// Buffers as sized by [`body`].
#[inline(always)]
unsafe fn multiply_keys<S: Simd, const R: usize, const G: usize>(
    keys: &[f32],
    queries: &[f32],
    dim: usize,
    count: usize,
    ahead: &[&[u8]],
    scores: &mut [f32],
) {
    let (k, q, s) = (keys.as_ptr(), queries.as_ptr(), scores.as_mut_ptr());
    let ahead = Ahead::new(ahead, count.div_ceil(G * S::LANES) * dim);
    let mut key = 0;
    while key < count {
        // SAFETY: G · LANES divides TILE, so the block lies within the rows of `keys` and `scores`.
        unsafe {
            let mut sums = [[S::splat(0.0); G]; R];
            let mut elements = [S::splat(0.0); G];
            for channel in 0..dim {
                ahead.ask::<S>();
                for part in 0..G {
                    elements[part] = S::load(k.add(channel * TILE + key + part * S::LANES));
                }
                for row in 0..R {
                    let query = S::splat(*q.add(row * dim + channel));
                    for part in 0..G {
                        sums[row][part] = S::fma(elements[part], query, sums[row][part]);
                    }
                }
            }
            for row in 0..R {
                for part in 0..G {
                    S::store(s.add(row * TILE + key + part * S::LANES), sums[row][part]);
                }
            }
        }
        key += G * S::LANES;
    }
}

/// As in `scores`: hides the tile from rows whose greatest score in it is too far below the one `before`; returns whether it did for any.
///
/// # Safety
/// Buffers as sized by [`body`].
#[inline(always)]
unsafe fn leave_out<S: Simd, const R: usize>(
    scores: &[f32],
    count: usize,
    skip: f32,
    before: &[f32; R],
    seen: &mut [u64; R],
) -> bool {
    let mut left = false;
    for row in 0..R {
        let mut tops = S::splat(NONE);
        let mut each = [NONE; 16];
        // SAFETY: vectors begin below count ≤ TILE, and LANES divides TILE.
        unsafe {
            for key in (0..count).step_by(S::LANES) {
                let score = S::load(scores.as_ptr().add(row * TILE + key));
                tops = S::max(S::select((seen[row] >> key) as u32, score, S::splat(NONE)), tops);
            }
            S::store(each.as_mut_ptr(), tops);
        }
        let top = each[..S::LANES]
            .iter()
            .fold(NONE, |top, &score| if score > top { score } else { top });
        if before[row] >= NONE / 2.0 && top <= before[row] - skip {
            left |= seen[row] != 0;
            seen[row] = 0;
        }
    }
    left
}

/// As in `tile`: scores → probabilities relative to the running maximum, summed with keys ascending.
///
/// # Safety
/// Buffers as sized by [`body`].
#[inline(always)]
unsafe fn normalize<S: Simd, const R: usize>(
    scores: &mut [f32],
    count: usize,
    seen: &[u64; R],
    largest: &mut [f32; R],
    sums: &mut [f32; R],
) -> [f32; R] {
    let mut alpha = [1f32; R];
    // SAFETY: vectors begin below count ≤ TILE, and LANES divides TILE.
    unsafe {
        for row in 0..R {
            let at = scores.as_mut_ptr().add(row * TILE);
            let mut tops = S::splat(largest[row]);
            for key in (0..count).step_by(S::LANES) {
                let bits = (seen[row] >> key) as u32;
                let score = S::select(bits, S::load(at.add(key)), S::splat(NONE));
                tops = S::max(score, tops);
            }
            let mut each = [NONE; 16];
            S::store(each.as_mut_ptr(), tops);
            let top = each[..S::LANES]
                .iter()
                .fold(largest[row], |top, &score| if score > top { score } else { top });
            let factor = exp2_down::<S>(S::splat(largest[row] - top));
            S::store(each.as_mut_ptr(), factor);
            alpha[row] = each[0];
            largest[row] = top;
            for key in (0..count).step_by(S::LANES) {
                let bits = (seen[row] >> key) as u32;
                let score = S::sub(S::load(at.add(key)), S::splat(top));
                let probability = exp2_down::<S>(score);
                S::store(at.add(key), S::select(bits, probability, S::splat(0.0)));
            }
            sums[row] *= alpha[row];
        }
        for key in 0..count {
            for row in 0..R {
                sums[row] += *scores.get_unchecked(row * TILE + key);
            }
        }
    }
    alpha
}

/// Keys in rows of `dim` f32 from `from` → channels in rows of TILE.
///
/// # Safety
/// As for [`Simd`]; `from` has `reach` keys, a multiple of LANES, and `transposed` is as sized by [`body`].
#[inline(always)]
unsafe fn transpose_floats<S: Simd>(from: *const f32, dim: usize, reach: usize, transposed: &mut [f32]) {
    for key in (0..reach).step_by(S::LANES) {
        for channel in (0..dim).step_by(S::LANES) {
            // SAFETY: LANES divides `reach` and `dim`.
            unsafe {
                let to = transposed.as_mut_ptr().add(channel * TILE + key);
                S::transpose(from.add(key * dim + channel), dim, to, TILE);
            }
        }
    }
}

/// As [`transpose_floats`] from the bytes of a cache, f32 or f16.
///
/// # Safety
/// As for [`transpose_floats`]; 2 · LANES divides the dim of f16 keys.
#[inline(always)]
unsafe fn transpose_keys<S: Simd>(half: bool, keys: &[u8], dim: usize, reach: usize, transposed: &mut [f32]) {
    let mut pairs = [0f32; 16 * 16];
    for key in (0..reach).step_by(S::LANES) {
        // SAFETY: `keys` holds `reach` rows; LANES divides them, and dim as asked for.
        unsafe {
            if !half {
                let from = keys.as_ptr().cast::<f32>().add(key * dim);
                transpose_floats::<S>(from, dim, S::LANES, &mut transposed[key..]);
                continue;
            }
            for channel in (0..dim).step_by(2 * S::LANES) {
                let from = keys.as_ptr().add(2 * (key * dim + channel)).cast();
                S::transpose(from, dim / 2, pairs.as_mut_ptr(), S::LANES);
                for pair in 0..S::LANES {
                    let (even, odd) = S::widen_pairs(pairs.as_ptr().add(pair * S::LANES));
                    let to = transposed.as_mut_ptr().add((channel + 2 * pair) * TILE + key);
                    S::store(to, even);
                    S::store(to.add(TILE), odd);
                }
            }
        }
    }
}

/// What multiplies the values of a tile.
struct Weights<'a, const R: usize> {
    /// Probabilities, a row of TILE each.
    scores: &'a [f32],
    alpha: &'a [f32; R],
    seen: &'a [u64; R],
    count: usize,
    value_dim: usize,
    /// Values to ask for meanwhile.
    ahead: Ahead<'a>,
}

/// What is asked for step by step of a loop: a few cache lines each, as many at once would wait for each other.
struct Ahead<'a> {
    spans: &'a [&'a [u8]],
    /// Lines of a step.
    lines: usize,
    /// Span and byte that come next.
    next: Cell<(usize, usize)>,
}

impl<'a> Ahead<'a> {
    fn new(spans: &'a [&'a [u8]], steps: usize) -> Self {
        let lines: usize = spans.iter().map(|span| span.len().div_ceil(64)).sum();
        Self {
            spans,
            lines: lines.div_ceil(steps),
            next: Cell::new((0, 0)),
        }
    }

    #[inline(always)]
    fn ask<S: Simd>(&self) {
        let (mut span, mut byte) = self.next.get();
        for _ in 0..self.lines {
            let Some(bytes) = self.spans.get(span) else { break };
            S::prefetch(bytes.as_ptr().wrapping_add(byte));
            byte += 64;
            if byte >= bytes.len() {
                (span, byte) = (span + 1, 0);
            }
        }
        self.next.set((span, byte));
    }
}

/// output[row][d] = output · alpha + Σ_key p[row][key] · v[key][d], keys ascending. `values` are rows of f32, or of f16 if HALF.
///
/// # Safety
/// Buffers as sized by [`body`]; `values` has `count` rows.
#[inline(always)]
unsafe fn add_values<S: Simd, const R: usize, const G: usize, const GUARDED: bool, const HALF: bool>(
    weights: &Weights<R>,
    values: *const u8,
    output: &mut [f32],
) {
    let mut channel = 0;
    // SAFETY: channels below value_dim, which LANES divides; keys below count.
    unsafe {
        while channel + G * S::LANES <= weights.value_dim {
            add_channels::<S, R, G, GUARDED, HALF>(weights, values, channel, output);
            channel += G * S::LANES;
        }
        while channel < weights.value_dim {
            add_channels::<S, R, 1, GUARDED, HALF>(weights, values, channel, output);
            channel += S::LANES;
        }
    }
}

/// # Safety
/// As for [`add_values`].
#[inline(always)]
unsafe fn add_channels<S: Simd, const R: usize, const G: usize, const GUARDED: bool, const HALF: bool>(
    weights: &Weights<R>,
    values: *const u8,
    channel: usize,
    output: &mut [f32],
) {
    let value_dim = weights.value_dim;
    // SAFETY: as for `add_values`.
    unsafe {
        let o = output.as_mut_ptr().add(channel);
        let mut sums = [[S::splat(0.0); G]; R];
        for row in 0..R {
            for part in 0..G {
                sums[row][part] = S::mul(
                    S::load(o.add(row * value_dim + part * S::LANES)),
                    S::splat(weights.alpha[row]),
                );
            }
        }
        let mut elements = [S::splat(0.0); G];
        for key in 0..weights.count {
            weights.ahead.ask::<S>();
            for part in 0..G {
                let element = key * value_dim + channel + part * S::LANES;
                elements[part] = if HALF {
                    S::load_f16(values.add(2 * element).cast())
                } else {
                    S::load(values.add(4 * element).cast())
                };
            }
            for row in 0..R {
                if GUARDED && (weights.seen[row] >> key) & 1 == 0 {
                    continue;
                }
                let p = S::splat(*weights.scores.get_unchecked(row * TILE + key));
                for part in 0..G {
                    sums[row][part] = S::fma(p, elements[part], sums[row][part]);
                }
            }
        }
        for row in 0..R {
            for part in 0..G {
                S::store(o.add(row * value_dim + part * S::LANES), sums[row][part]);
            }
        }
    }
}
