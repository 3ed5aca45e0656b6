//! The arithmetic of a chunk of lanes on one tile of keys. Every lane's operations are a function of its own row: dots run over channels in
//! order, sums over keys in order.

use super::keys::TILE;
use super::partial::NONE;
use crate::simd::{exp2_down, Simd};

/// Tiles and scores are padded by as many keys, which register blocks may reach.
pub const PADDING: usize = 4;

/// Keys and values of a tile, row-major f32: `count` keys, and enough readable memory behind them for whole register blocks.
pub struct Tile {
    pub keys: *const f32,
    pub values: *const f32,
    pub count: usize,
    pub dim: usize,
    pub value_dim: usize,
}

impl Tile {
    /// True when no value is NaN or ±∞.
    ///
    /// # Safety
    /// `values` has `count` rows.
    pub unsafe fn finite_values(&self) -> bool {
        // SAFETY: the caller's promise.
        all_finite(unsafe { std::slice::from_raw_parts(self.values, self.count * self.value_dim) })
    }
}

/// True when no value is NaN or ±∞.
pub fn all_finite(values: &[f32]) -> bool {
    let mut sums = [0f32; 16];
    let (vectors, rest) = values.as_chunks::<16>();
    for vector in vectors {
        for (sum, value) in sums.iter_mut().zip(vector) {
            *sum += value * 0.0;
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|value| value * 0.0).sum::<f32>() == 0.0
}

pub fn cap_scores(scores: &mut [f32], cap: f32) {
    for score in scores {
        *score = cap * (*score / cap).tanh() * std::f32::consts::LOG2_E;
    }
}

/// Keys or channels of the register blocks at the end, where fewer than a whole block are left.
const TAIL: usize = PADDING;

/// scores[key][lane] = Σ_d k[key][d] · q[d][lane], d ascending; KU keys at a time.
///
/// # Safety
/// As for [`Simd`]; the tile has `count` rounded up to TAIL readable keys, q [D][NV · LANES], scores as many rows of NV · LANES.
#[inline(always)]
pub unsafe fn multiply_keys<S: Simd, const NV: usize, const KU: usize>(tile: &Tile, queries: &[f32], scores: &mut [f32]) {
    let mut key = 0;
    // SAFETY: the caller's promise; rows from `count` on are scratch.
    unsafe {
        while key + KU <= tile.count {
            multiply_block::<S, NV, KU>(tile, key, queries, scores);
            key += KU;
        }
        // Where KU is no multiple of TAIL, a last block could reach beyond what is readable.
        while key < tile.count && key + TAIL <= tile.count.next_multiple_of(TAIL) {
            multiply_block::<S, NV, TAIL>(tile, key, queries, scores);
            key += TAIL;
        }
        while key < tile.count {
            multiply_block::<S, NV, 1>(tile, key, queries, scores);
            key += 1;
        }
    }
}

/// # Safety
/// As for [`multiply_keys`], with `key + KU` readable keys.
#[inline(always)]
unsafe fn multiply_block<S: Simd, const NV: usize, const KU: usize>(
    tile: &Tile,
    key: usize,
    queries: &[f32],
    scores: &mut [f32],
) {
    let (width, dim) = (NV * S::LANES, tile.dim);
    // SAFETY: the caller's promise.
    unsafe {
        let (k, q, s) = (
            tile.keys.add(key * dim),
            queries.as_ptr(),
            scores.as_mut_ptr().add(key * width),
        );
        let mut sums = [[S::splat(0.0); NV]; KU];
        let mut query = [S::splat(0.0); NV];
        for channel in 0..dim {
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
                S::store(s.add(unit * width + vector * S::LANES), sum);
            }
        }
    }
}

/// Scores → probabilities relative to the running maximum; keys ascending. Returns the factors of what was summed before.
///
/// # Safety
/// As for [`Simd`]; scores [count][NV · LANES], largest and sums [NV · LANES].
#[inline(always)]
pub unsafe fn normalize<S: Simd, const NV: usize, const HIDDEN: bool>(
    scores: &mut [f32],
    count: usize,
    bits: &[[u32; NV]; TILE],
    largest: &mut [f32],
    sums: &mut [f32],
) -> [S::V; NV] {
    let width = NV * S::LANES;
    // SAFETY: keys below count, lanes below width.
    unsafe {
        let mut alpha = [S::splat(1.0); NV];
        for vector in 0..NV {
            let at = scores.as_mut_ptr().add(vector * S::LANES);
            let (largest, sums) = (
                largest.as_mut_ptr().add(vector * S::LANES),
                sums.as_mut_ptr().add(vector * S::LANES),
            );
            let before = S::load(largest);
            // Several at once, as a maximum takes longer than a load; the order makes no difference.
            let mut tops = [before; 4];
            for key in 0..count {
                let mut score = S::load(at.add(key * width));
                if HIDDEN {
                    score = S::select(bits[key][vector], score, S::splat(NONE));
                }
                tops[key % 4] = S::max(score, tops[key % 4]);
            }
            let top = S::max(S::max(tops[0], tops[1]), S::max(tops[2], tops[3]));
            alpha[vector] = exp2_down::<S>(S::sub(before, top));
            S::store(largest, top);
            let mut sum = S::mul(S::load(sums), alpha[vector]);
            for key in 0..count {
                let p = at.add(key * width);
                let mut probability = exp2_down::<S>(S::sub(S::load(p), top));
                if HIDDEN {
                    probability = S::select(bits[key][vector], probability, S::splat(0.0));
                }
                sum = S::add(sum, probability);
                S::store(p, probability);
            }
            S::store(sums, sum);
        }
        alpha
    }
}

/// output[d][lane] = output · alpha + Σ_key p[key][lane] · v[key][d], keys ascending.
///
/// # Safety
/// As for [`Simd`]; scores [count][NV · LANES], output [Dv][NV · LANES].
#[inline(always)]
pub unsafe fn add_values<S: Simd, const NV: usize, const CU: usize, const GUARDED: bool>(
    tile: &Tile,
    scores: &[f32],
    alpha: &[S::V; NV],
    bits: &[[u32; NV]; TILE],
    output: &mut [f32],
) {
    let mut channel = 0;
    // SAFETY: channels below value_dim, keys below count.
    unsafe {
        while channel + CU <= tile.value_dim {
            add_channels::<S, NV, CU, GUARDED>(tile, channel, scores, alpha, bits, output);
            channel += CU;
        }
        while channel + TAIL <= tile.value_dim {
            add_channels::<S, NV, TAIL, GUARDED>(tile, channel, scores, alpha, bits, output);
            channel += TAIL;
        }
        while channel < tile.value_dim {
            add_channels::<S, NV, 1, GUARDED>(tile, channel, scores, alpha, bits, output);
            channel += 1;
        }
    }
}

/// # Safety
/// As for [`add_values`]; `channel + CU ≤ Dv`.
#[inline(always)]
unsafe fn add_channels<S: Simd, const NV: usize, const CU: usize, const GUARDED: bool>(
    tile: &Tile,
    channel: usize,
    scores: &[f32],
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
        for key in 0..tile.count {
            for vector in 0..NV {
                p[vector] = S::load(scores.as_ptr().add(key * width + vector * S::LANES));
            }
            for (unit, sums) in sums.iter_mut().enumerate() {
                let value = S::splat(*tile.values.add(key * tile.value_dim + channel + unit));
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
