//! Few rows, as in decode: keys in lanes for the scores, from a transposed tile; channels in lanes for the values. Every element goes
//! through the operations of `lanes` in the same order, so the bits are the same.

use super::block::{grow, Buffers, Query};
use super::call::Work;
use super::keys::{Visit, TILE};
use super::lanes::{all_finite, cap_scores};
use super::partial::{Row, NONE};
use crate::simd::{exp2, Simd};
use crate::{simd_dispatch, Cpu};

/// Most rows that share the loads of a tile.
pub const MOST_ROWS: usize = 4;
/// Rows of the transposition that may lie beyond the tile.
const PADDING: usize = 16;

/// At most [`MOST_ROWS`] rows; head dims are multiples of the lanes.
pub fn run(cpu: Cpu, work: &Work, visits: &[Visit], queries: &[Query], buffers: &mut Buffers) {
    simd_dispatch!(cpu, chunk(work: &Work, visits: &[Visit], queries: &[Query], buffers: &mut Buffers));
}

/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn chunk<S: Simd>(work: &Work, visits: &[Visit], queries: &[Query], buffers: &mut Buffers) {
    // SAFETY: the caller's promise. Registers: rows × vectors accumulators, the vectors, one broadcast.
    unsafe {
        match (queries.len(), S::LANES) {
            (1, 16) => body::<S, 1, 4>(work, visits, queries, buffers),
            (2, 16) => body::<S, 2, 4>(work, visits, queries, buffers),
            (3, 16) => body::<S, 3, 4>(work, visits, queries, buffers),
            (_, 16) => body::<S, 4, 4>(work, visits, queries, buffers),
            (1, _) => body::<S, 1, 4>(work, visits, queries, buffers),
            (2, _) => body::<S, 2, 4>(work, visits, queries, buffers),
            (3, _) => body::<S, 3, 2>(work, visits, queries, buffers),
            _ => body::<S, 4, 2>(work, visits, queries, buffers),
        }
    }
}

/// R rows, G vectors per register block.
///
/// # Safety
/// As for [`Simd`]; `rows` has R elements, LANES divides D, Dv and TILE.
#[inline(always)]
unsafe fn body<S: Simd, const R: usize, const G: usize>(work: &Work, visits: &[Visit], rows: &[Query], buffers: &mut Buffers) {
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
    grow(keys, by_channel + dim * TILE);
    grow(values, TILE * value_dim);
    grow(scores, R * TILE);
    grow(queries, R * dim);
    grow(output, R * value_dim);
    grow(total, R * value_dim);
    for (row, &(head, index)) in rows.iter().enumerate() {
        let from = shape.row(work.batch, head, index) * dim;
        for (out, &value) in queries[row * dim..].iter_mut().zip(&work.q[from..from + dim]) {
            *out = value * shape.query_scale;
        }
    }
    let mut tops = [NONE; R];
    let mut totals = [0f32; R];
    total[..R * value_dim].fill(0.0);
    for visits in visits.chunk_by(|a, b| a.segment() == b.segment()) {
        let mut largest = [NONE; R];
        let mut sums = [0f32; R];
        output[..R * value_dim].fill(0.0);
        for visit in visits {
            let count = visit.end - visit.start;
            let mut seen = [0u64; R];
            for (row, &(_, index)) in rows.iter().enumerate() {
                let (low, high) = work.bounds(index);
                seen[row] = visit.seen(low, high);
            }
            // SAFETY: every pointer stays within buffers that were sized above; LANES divides the rows they are cut into.
            unsafe {
                work.source
                    .load_tile::<S>(work.batch, work.kv_head, visit.start, count, keys, values);
                let (tile, transposed) = keys.split_at_mut(by_channel);
                for key in (0..count).step_by(S::LANES) {
                    for channel in (0..dim).step_by(S::LANES) {
                        S::transpose(
                            tile.as_ptr().add(key * dim + channel),
                            dim,
                            transposed.as_mut_ptr().add(channel * TILE + key),
                            TILE,
                        );
                    }
                }
                multiply_keys::<S, R, G>(transposed, queries, dim, count, scores);
                if shape.softcap > 0.0 {
                    for scores in scores.chunks_exact_mut(TILE).take(R) {
                        cap_scores(&mut scores[..count], shape.softcap);
                    }
                }
                let alpha = normalize::<S, R>(scores, count, &seen, &mut largest, &mut sums);
                let hidden = seen.iter().any(|&seen| seen != visit.all());
                if hidden && !all_finite(&values[..count * value_dim]) {
                    add_values::<S, R, G, true>(scores, values, value_dim, count, &alpha, &seen, output);
                } else {
                    add_values::<S, R, G, false>(scores, values, value_dim, count, &alpha, &seen, output);
                }
            }
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
    for (row, &query) in rows.iter().enumerate() {
        let values = &total[row * value_dim..(row + 1) * value_dim];
        work.finish(query, tops[row], totals[row], |channel| values[channel]);
    }
}

/// scores[row][key] = Σ_d kᵀ[d][key] · q[row][d], d ascending; keys rounded up to whole register blocks.
///
/// # Safety
/// Buffers as sized by [`body`].
#[inline(always)]
unsafe fn multiply_keys<S: Simd, const R: usize, const G: usize>(
    keys: &[f32],
    queries: &[f32],
    dim: usize,
    count: usize,
    scores: &mut [f32],
) {
    let (k, q, s) = (keys.as_ptr(), queries.as_ptr(), scores.as_mut_ptr());
    let mut key = 0;
    while key < count {
        // SAFETY: G · LANES divides TILE, so the block lies within the rows of `keys` and `scores`.
        unsafe {
            let mut sums = [[S::splat(0.0); G]; R];
            let mut elements = [S::splat(0.0); G];
            for channel in 0..dim {
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

/// As in `lanes`: scores → probabilities relative to the running maximum, summed with keys ascending.
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
            let factor = exp2::<S>(S::max(S::splat(-200.0), S::splat(largest[row] - top)));
            S::store(each.as_mut_ptr(), factor);
            alpha[row] = each[0];
            largest[row] = top;
            for key in (0..count).step_by(S::LANES) {
                let bits = (seen[row] >> key) as u32;
                let score = S::sub(S::load(at.add(key)), S::splat(top));
                let probability = exp2::<S>(S::max(S::splat(-200.0), score));
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

/// output[row][d] = output · alpha + Σ_key p[row][key] · v[key][d], keys ascending.
///
/// # Safety
/// Buffers as sized by [`body`].
#[inline(always)]
unsafe fn add_values<S: Simd, const R: usize, const G: usize, const GUARDED: bool>(
    scores: &[f32],
    values: &[f32],
    value_dim: usize,
    count: usize,
    alpha: &[f32; R],
    seen: &[u64; R],
    output: &mut [f32],
) {
    let mut channel = 0;
    // SAFETY: channels below value_dim, which LANES divides; keys below count.
    unsafe {
        while channel + G * S::LANES <= value_dim {
            add_channels::<S, R, G, GUARDED>(scores, values, value_dim, channel, count, alpha, seen, output);
            channel += G * S::LANES;
        }
        while channel < value_dim {
            add_channels::<S, R, 1, GUARDED>(scores, values, value_dim, channel, count, alpha, seen, output);
            channel += S::LANES;
        }
    }
}

/// # Safety
/// Buffers as sized by [`body`].
#[inline(always)]
unsafe fn add_channels<S: Simd, const R: usize, const G: usize, const GUARDED: bool>(
    scores: &[f32],
    values: &[f32],
    value_dim: usize,
    channel: usize,
    count: usize,
    alpha: &[f32; R],
    seen: &[u64; R],
    output: &mut [f32],
) {
    // SAFETY: as for `add_values`.
    unsafe {
        let o = output.as_mut_ptr().add(channel);
        let mut sums = [[S::splat(0.0); G]; R];
        for row in 0..R {
            for part in 0..G {
                sums[row][part] = S::mul(S::load(o.add(row * value_dim + part * S::LANES)), S::splat(alpha[row]));
            }
        }
        let mut elements = [S::splat(0.0); G];
        for key in 0..count {
            for part in 0..G {
                elements[part] = S::load(values.as_ptr().add(key * value_dim + channel + part * S::LANES));
            }
            for row in 0..R {
                if GUARDED && (seen[row] >> key) & 1 == 0 {
                    continue;
                }
                let p = S::splat(*scores.get_unchecked(row * TILE + key));
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
