//! Few rows, as in decode: keys in lanes for the scores, channels in lanes for the values. Every element goes through the operations of
//! `lanes` in the same order, so the bits are the same.
//!
//! Keys are transposed some channels at a time, as many as fill a cache line of a key: what is transposed stays in the first level of the
//! cache while keys and values stream past it. f16 is transposed in pairs of channels and widened afterwards: half the shuffles. Where every
//! vector of keys lies in one piece they are read from the cache itself, and the tile behind is asked for meanwhile. Values are widened on
//! their way into the multiply-adds.

use super::ahead::Ahead;
use super::block::{Buffers, Query};
use super::keys::{Blocks, MOST_BLOCKS};
use super::list::{List, TILE};
use super::partial::{Row, NONE};
use super::tile::{all_finite, cap_scores};
use super::work::Work;
use crate::simd::{exp2_down, Simd};
use crate::{simd_dispatch, Cpu};

/// Most rows that share the loads of a tile.
pub const MOST_ROWS: usize = 4;
/// Rows of a copied tile that may lie beyond it.
const PADDING: usize = 16;
/// Most channels that are transposed at a time.
const CHANNELS: usize = 32;

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
    let copied = (TILE + PADDING) * dim;
    let keys = keys.of(copied + CHANNELS * TILE);
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
            let source = work.source;
            let at = (work.batch, work.kv_head);
            let pieces = &list.pieces[visit.pieces.clone()];
            let bias = source.tile_bias(at, pieces);
            if let Some(bias) = &bias {
                seen.iter_mut().for_each(|seen| *seen &= !bias.hidden);
            }
            let hidden = seen.iter().any(|&seen| seen != visit.all());
            let fits = !source.half || dim.is_multiple_of(2 * S::LANES);
            // Vectors of keys may reach over the tile's end, into rows that are not looked at.
            let direct = match fits && !hidden {
                true => source.blocks(at, pieces, count, S::LANES),
                false => None,
            };
            ahead_keys.clear();
            ahead_values.clear();
            if let Some(next) = coming.next() {
                source.spans(at, &list.pieces[next.pieces.clone()], &mut ahead_keys, &mut ahead_values);
            }
            // SAFETY: every pointer stays within buffers that were sized above; LANES divides the rows they are cut into.
            unsafe {
                let (tile, slab) = keys.split_at_mut(copied);
                let (blocks, half) = match &direct {
                    Some(blocks) => (*blocks, source.half),
                    None => {
                        source.load_tile::<S>(at, pieces, tile, values);
                        (
                            Blocks::of_tile(tile.as_ptr(), values.as_ptr(), (dim, value_dim), S::LANES),
                            false,
                        )
                    }
                };
                let sizes = (dim, count);
                match half {
                    true => multiply_keys::<S, R, G, true>(&blocks.keys, queries, sizes, &ahead_keys, slab, scores),
                    false => multiply_keys::<S, R, G, false>(&blocks.keys, queries, sizes, &ahead_keys, slab, scores),
                }
                if shape.softcap > 0.0 {
                    for scores in scores.chunks_exact_mut(TILE).take(R) {
                        cap_scores(&mut scores[..count], shape.softcap);
                    }
                }
                if let Some(bias) = &bias {
                    bias.add_to_rows(&mut scores[..R * TILE], count);
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
                // 0 · NaN is NaN: rows that do not see a key must not meet values that are not finite.
                let guarded = match direct {
                    Some(_) => left,
                    None => (hidden || left) && !all_finite(&values[..count * value_dim]),
                };
                match (guarded, half) {
                    (true, true) => add_values::<S, R, G, true, true>(&weights, &blocks.values, output),
                    (true, false) => add_values::<S, R, G, true, false>(&weights, &blocks.values, output),
                    (false, true) => add_values::<S, R, G, false, true>(&weights, &blocks.values, output),
                    (false, false) => add_values::<S, R, G, false, false>(&weights, &blocks.values, output),
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

/// scores[row][key] = Σ_d k[key][d] · q[row][d], d ascending; keys rounded up to whole register blocks; keys `ahead` are asked for.
///
/// # Safety
/// Buffers as sized by [`body`]; every vector of the `count` keys begins in `keys`: rows of f32, or of f16 if HALF.
#[inline(always)]
unsafe fn multiply_keys<S: Simd, const R: usize, const G: usize, const HALF: bool>(
    keys: &[*const u8; MOST_BLOCKS],
    queries: &[f32],
    (dim, count): (usize, usize),
    ahead: &[&[u8]],
    slab: &mut [f32],
    scores: &mut [f32],
) {
    let (q, s) = (queries.as_ptr(), scores.as_mut_ptr());
    let channels = if HALF { 2 * S::LANES } else { S::LANES };
    let blocks = count.div_ceil(S::LANES);
    // Evenly over the time: a transposition takes about as long as four steps of the products.
    let steps = 4 * blocks * dim.div_ceil(channels) + count.div_ceil(G * S::LANES) * dim;
    let ahead = Ahead::new(ahead, steps);
    for first in (0..dim).step_by(channels) {
        for (block, &keys) in keys[..blocks].iter().enumerate() {
            for _ in 0..4 {
                ahead.ask::<S>();
            }
            // SAFETY: LANES rows of `dim` elements, which `channels` divides; the slab has `channels` rows of TILE.
            unsafe { transpose::<S, HALF>(keys, (dim, first), &mut slab[block * S::LANES..]) };
        }
        let k = slab.as_ptr();
        for key in (0..count).step_by(G * S::LANES) {
            // SAFETY: G · LANES divides TILE, so the block lies within the rows of the slab and of `scores`.
            unsafe {
                let mut sums = [[S::splat(0.0); G]; R];
                if first > 0 {
                    for row in 0..R {
                        for part in 0..G {
                            sums[row][part] = S::load(s.add(row * TILE + key + part * S::LANES));
                        }
                    }
                }
                let mut elements = [S::splat(0.0); G];
                for channel in 0..channels {
                    ahead.ask::<S>();
                    for part in 0..G {
                        elements[part] = S::load(k.add(channel * TILE + key + part * S::LANES));
                    }
                    for row in 0..R {
                        let query = S::splat(*q.add(row * dim + first + channel));
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
        }
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

/// LANES channels of LANES keys, or twice as many of f16 keys, from `first` on → rows of TILE.
///
/// # Safety
/// As for [`Simd`]; the channels divide `dim`, and `slab` holds their rows.
#[inline(always)]
unsafe fn transpose<S: Simd, const HALF: bool>(keys: *const u8, (dim, first): (usize, usize), slab: &mut [f32]) {
    let to = slab.as_mut_ptr();
    // SAFETY: the caller's promise.
    unsafe {
        if !HALF {
            S::transpose(keys.cast::<f32>().add(first), dim, to, TILE);
            return;
        }
        let mut pairs = [0f32; 16 * 16];
        S::transpose(keys.cast::<f32>().add(first / 2), dim / 2, pairs.as_mut_ptr(), S::LANES);
        for pair in 0..S::LANES {
            let (even, odd) = S::widen_pairs(pairs.as_ptr().add(pair * S::LANES));
            S::store(to.add(2 * pair * TILE), even);
            S::store(to.add((2 * pair + 1) * TILE), odd);
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

/// output[row][d] = output · alpha + Σ_key p[row][key] · v[key][d], keys ascending. Values are rows of f32, or of f16 if HALF.
///
/// # Safety
/// Buffers as sized by [`body`]; the values of every LANES keys begin in `values`.
#[inline(always)]
unsafe fn add_values<S: Simd, const R: usize, const G: usize, const GUARDED: bool, const HALF: bool>(
    weights: &Weights<R>,
    values: &[*const u8; MOST_BLOCKS],
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
    values: &[*const u8; MOST_BLOCKS],
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
        for (block, &values) in values[..weights.count.div_ceil(S::LANES)].iter().enumerate() {
            let first = block * S::LANES;
            for key in first..weights.count.min(first + S::LANES) {
                weights.ahead.ask::<S>();
                for part in 0..G {
                    let element = (key - first) * value_dim + channel + part * S::LANES;
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
        }
        for row in 0..R {
            for part in 0..G {
                S::store(o.add(row * value_dim + part * S::LANES), sums[row][part]);
            }
        }
    }
}
