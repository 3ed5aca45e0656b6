//! The two passes of probe-sums over a chunk of keys, queries in vector lanes.

use super::key_rows::KeyRows;
use crate::simd::{exp2_down, Simd};
use crate::{simd_dispatch, Cpu};
use std::ops::Range;

/// Keys whose scores are made at once.
const TILE: usize = 64;
/// Lanes of a pass over the rows on any path divide this.
pub const MOST_WIDTH: usize = 64;
/// Score of what a query does not see.
const NONE: f32 = -1e30;

/// The last rows of one head, and its keys.
pub struct Probe<'a> {
    pub q: &'a [f32],
    /// First query and how many.
    pub first: (usize, usize),
    /// Row of query 0 of the head in q, and rows from one query to the next.
    pub row: (usize, usize),
    pub keys: &'a KeyRows<'a>,
    pub place: (usize, usize),
    /// Position of the first query.
    pub position: i64,
    pub scale: f32,
    /// 0: none.
    pub softcap: f32,
    /// Rows up to a whole number of lanes.
    pub padded: usize,
}

/// Keys of a work item.
pub struct Chunk {
    pub keys: Range<usize>,
}

/// Maximum and sum of exponentials of two, per row: out [2][padded].
pub fn statistics(cpu: Cpu, probe: &Probe, chunk: Chunk, out: &mut [f32]) {
    simd_dispatch!(cpu, statistics_on(probe: &Probe, chunk: Chunk, out: &mut [f32]));
}

/// Adds probabilities: to columns by key, to distances [CHUNK + padded] from that of the first row to the chunk's last key on.
pub fn probabilities(cpu: Cpu, probe: &Probe, chunk: Chunk, stats: &[f32], columns: &mut [f32], distances: &mut [f32]) {
    simd_dispatch!(cpu, probabilities_on(probe: &Probe, chunk: Chunk, stats: &[f32], columns: &mut [f32], distances: &mut [f32]));
}

/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn statistics_on<S: Simd>(probe: &Probe, chunk: Chunk, out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe {
        match S::LANES {
            16 => first_pass::<S, 4, 6>(probe, chunk, out),
            8 => first_pass::<S, 2, 4>(probe, chunk, out),
            _ => first_pass::<S, 4, 4>(probe, chunk, out),
        }
    }
}

/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn probabilities_on<S: Simd>(probe: &Probe, chunk: Chunk, stats: &[f32], columns: &mut [f32], distances: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe {
        match S::LANES {
            16 => second_pass::<S, 4, 6>(probe, chunk, stats, columns, distances),
            8 => second_pass::<S, 2, 4>(probe, chunk, stats, columns, distances),
            _ => second_pass::<S, 4, 4>(probe, chunk, stats, columns, distances),
        }
    }
}

/// Buffers of a pass over NV · LANES rows.
struct Buffers {
    queries: Vec<f32>,
    keys: Vec<f32>,
    scores: Vec<f32>,
}

impl Buffers {
    fn new(dim: usize, width: usize) -> Self {
        Self {
            queries: vec![0.0; dim * width],
            keys: vec![0.0; TILE * dim],
            scores: vec![0.0; TILE * width],
        }
    }
}

impl Probe<'_> {
    /// Queries `lane0 … lane0 + width` as [D][width], scaled for exponentials of two. Lanes without a query repeat the last one, and their probabilities are
    /// multiplied by 0: what is no number there is none in the last query's lane either.
    fn pack(&self, lane0: usize, width: usize, queries: &mut [f32]) {
        let dim = self.keys.dim;
        let factor = if self.softcap > 0.0 {
            self.scale
        } else {
            self.scale * std::f32::consts::LOG2_E
        };
        for lane in 0..width {
            let query = self.first.0 + (lane0 + lane).min(self.first.1 - 1);
            let row = self.row.0 + query * self.row.1;
            for (channel, &value) in self.q[row * dim..(row + 1) * dim].iter().enumerate() {
                queries[channel * width + lane] = value * factor;
            }
        }
    }

    /// Scores [count][width] of the keys from `from` on.
    ///
    /// # Safety
    /// As for [`Simd`]; at most TILE keys, width NV · LANES.
    #[inline(always)]
    unsafe fn score<S: Simd, const NV: usize, const KU: usize>(&self, from: usize, count: usize, buffers: &mut Buffers) {
        let Buffers { queries, keys, scores } = buffers;
        let keys = self.keys.floats(self.place.0, self.place.1, from, count, keys);
        assert!(keys.len() == count * self.keys.dim && scores.len() >= count * NV * S::LANES);
        let mut key = 0;
        // SAFETY: keys below count.
        unsafe {
            while key + KU <= count {
                multiply::<S, NV, KU>(keys, key, self.keys.dim, queries, scores);
                key += KU;
            }
            while key < count {
                multiply::<S, NV, 1>(keys, key, self.keys.dim, queries, scores);
                key += 1;
            }
        }
        if self.softcap > 0.0 {
            for score in &mut scores[..count * NV * S::LANES] {
                *score = self.softcap * (*score / self.softcap).tanh() * std::f32::consts::LOG2_E;
            }
        }
    }

    /// Which of the LANES rows from `lane` on see a key.
    fn seen_by(&self, key: usize, lane: usize, lanes: usize) -> u32 {
        let first = (key as i64 - self.position - lane as i64).clamp(0, lanes as i64) as u32;
        (((1u64 << lanes) - 1) & !((1u64 << first) - 1)) as u32
    }

    /// Whether all rows see all keys before `end`.
    fn all_seen(&self, end: usize) -> bool {
        end as i64 - 1 <= self.position
    }
}

/// scores[key][lane] = Σ_d k[key][d] · q[d][lane] for KU keys.
///
/// # Safety
/// As for [`Simd`]; `key + KU` keys, as many rows of scores.
#[inline(always)]
unsafe fn multiply<S: Simd, const NV: usize, const KU: usize>(
    keys: &[f32],
    key: usize,
    dim: usize,
    queries: &[f32],
    scores: &mut [f32],
) {
    let width = NV * S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let (k, q, out) = (
            keys.as_ptr().add(key * dim),
            queries.as_ptr(),
            scores.as_mut_ptr().add(key * width),
        );
        let mut sums = [[S::splat(0.0); NV]; KU];
        for channel in 0..dim {
            let mut query = [S::splat(0.0); NV];
            for vector in 0..NV {
                query[vector] = S::load(q.add(channel * width + vector * S::LANES));
            }
            for (unit, sums) in sums.iter_mut().enumerate() {
                let element = S::splat(*k.add(unit * dim + channel));
                for vector in 0..NV {
                    sums[vector] = S::fma(element, query[vector], sums[vector]);
                }
            }
        }
        for (unit, sums) in sums.iter().enumerate() {
            for (vector, &sum) in sums.iter().enumerate() {
                S::store(out.add(unit * width + vector * S::LANES), sum);
            }
        }
    }
}

/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn first_pass<S: Simd, const NV: usize, const KU: usize>(probe: &Probe, chunk: Chunk, out: &mut [f32]) {
    let width = NV * S::LANES;
    let (tops, sums) = out.split_at_mut(probe.padded);
    tops.fill(NONE);
    sums.fill(0.0);
    let mut buffers = Buffers::new(probe.keys.dim, width);
    for lane0 in (0..probe.first.1).step_by(width) {
        probe.pack(lane0, width, &mut buffers.queries);
        for from in chunk.keys.clone().step_by(TILE) {
            let count = TILE.min(chunk.keys.end - from);
            let all = probe.all_seen(from + count);
            // SAFETY: the caller's promise; rows of scores below count, `padded` is a multiple of width.
            unsafe {
                probe.score::<S, NV, KU>(from, count, &mut buffers);
                for vector in 0..NV {
                    let lane = lane0 + vector * S::LANES;
                    let at = buffers.scores.as_mut_ptr().add(vector * S::LANES);
                    if !all {
                        for key in 0..count {
                            let seen = probe.seen_by(from + key, lane, S::LANES);
                            let score = S::load(at.add(key * width));
                            S::store(at.add(key * width), S::select(seen, score, S::splat(NONE)));
                        }
                    }
                    let (top_at, sum_at) = (tops.as_mut_ptr().add(lane), sums.as_mut_ptr().add(lane));
                    let before = S::load(top_at);
                    let mut top = before;
                    for key in 0..count {
                        top = S::max(S::load(at.add(key * width)), top);
                    }
                    let mut sum = S::mul(S::load(sum_at), exp2_down::<S>(S::sub(before, top)));
                    for key in 0..count {
                        let mut value = exp2_down::<S>(S::sub(S::load(at.add(key * width)), top));
                        if !all {
                            let seen = probe.seen_by(from + key, lane, S::LANES);
                            value = S::select(seen, value, S::splat(0.0));
                        }
                        sum = S::add(sum, value);
                    }
                    S::store(top_at, top);
                    S::store(sum_at, sum);
                }
            }
        }
    }
}

/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn second_pass<S: Simd, const NV: usize, const KU: usize>(
    probe: &Probe,
    chunk: Chunk,
    stats: &[f32],
    columns: &mut [f32],
    distances: &mut [f32],
) {
    let width = NV * S::LANES;
    let mut buffers = Buffers::new(probe.keys.dim, width);
    // Sums over the vectors of a key; LANES of them become a vector of column sums.
    let mut key_sums = [0f32; 16 * 16];
    assert!(
        distances.len() >= chunk.keys.len() + probe.padded
            && stats.len() == 2 * probe.padded
            && columns.len() == chunk.keys.len()
    );
    for lane0 in (0..probe.first.1).step_by(width) {
        probe.pack(lane0, width, &mut buffers.queries);
        // SAFETY: the caller's promise; lanes below padded, keys below count, distances as asserted.
        unsafe {
            let mut tops = [S::splat(0.0); NV];
            let mut factors = [S::splat(0.0); NV];
            for vector in 0..NV {
                tops[vector] = S::load(stats.as_ptr().add(lane0 + vector * S::LANES));
                factors[vector] = S::load(stats.as_ptr().add(probe.padded + lane0 + vector * S::LANES));
            }
            for from in chunk.keys.clone().step_by(TILE) {
                let count = TILE.min(chunk.keys.end - from);
                let all = probe.all_seen(from + count);
                probe.score::<S, NV, KU>(from, count, &mut buffers);
                for first in (0..count).step_by(S::LANES) {
                    let some = S::LANES.min(count - first);
                    for unit in 0..some {
                        let key = from + first + unit;
                        let scores = buffers.scores.as_ptr().add((first + unit) * width);
                        let out = distances.as_mut_ptr().add(lane0 + chunk.keys.end - 1 - key);
                        let mut total = S::splat(0.0);
                        for vector in 0..NV {
                            let score = S::load(scores.add(vector * S::LANES));
                            let mut value = S::mul(exp2_down::<S>(S::sub(score, tops[vector])), factors[vector]);
                            if !all {
                                let seen = probe.seen_by(key, lane0 + vector * S::LANES, S::LANES);
                                value = S::select(seen, value, S::splat(0.0));
                            }
                            total = S::add(total, value);
                            let out = out.add(vector * S::LANES);
                            S::store(out, S::add(S::load(out), value));
                        }
                        S::store(key_sums.as_mut_ptr().add(unit * S::LANES), total);
                    }
                    key_sums[some * S::LANES..S::LANES * S::LANES].fill(0.0);
                    let mut turned = [0f32; 16 * 16];
                    S::transpose(key_sums.as_ptr(), S::LANES, turned.as_mut_ptr(), S::LANES);
                    let mut sums = S::load(turned.as_ptr());
                    for lane in 1..S::LANES {
                        sums = S::add(sums, S::load(turned.as_ptr().add(lane * S::LANES)));
                    }
                    let mut per_key = [0f32; 16];
                    S::store(per_key.as_mut_ptr(), sums);
                    let at = from + first - chunk.keys.start;
                    for (column, sum) in columns[at..at + some].iter_mut().zip(&per_key) {
                        *column += sum;
                    }
                }
            }
        }
    }
}
