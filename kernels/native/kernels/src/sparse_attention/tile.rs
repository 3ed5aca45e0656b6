//! The arithmetic of a chunk of lanes on one tile of keys. Every lane's operations are a function of its own row: dots run over channels in
//! order, sums over keys in order. Words are what the arithmetic makes of numbers: one f32, or two bfloat16.

use super::ahead::Ahead;
use super::arithmetic::{Arithmetic, V};
use super::list::TILE;
use super::partial::NONE;
use crate::simd::{exp2_down, Simd};

/// Tiles and scores are padded by as many keys, which register blocks may reach.
pub const PADDING: usize = 4;

/// Pieces of a tile that are read where they lie.
pub const MOST_PARTS: usize = 4;

/// Keys and values that lie one behind the other, row-major words, and enough readable memory behind them for whole register blocks.
#[derive(Clone, Copy)]
pub struct Part {
    /// A row of `dim` words per key.
    pub keys: *const f32,
    /// A row of `value_dim` words per key, or per pair of keys.
    pub values: *const f32,
    /// Keys of the tile before it; pairs of keys are not cut.
    pub first: usize,
    pub count: usize,
}

/// Keys and values of a tile: the first `used` parts.
pub struct Tile {
    pub parts: [Part; MOST_PARTS],
    pub used: usize,
    pub dim: usize,
    pub value_dim: usize,
}

impl Tile {
    fn parts(&self) -> &[Part] {
        &self.parts[..self.used]
    }

    /// True when no value is NaN or ±∞.
    ///
    /// # Safety
    /// The parts have the rows of their keys.
    pub unsafe fn finite_values<A: Arithmetic>(&self) -> bool {
        self.parts().iter().all(|part| {
            let length = part.count.div_ceil(A::PACKED) * self.value_dim;
            // Values of no channels are anywhere, aligned or not.
            if length == 0 {
                return true;
            }
            // SAFETY: the caller's promise.
            let values = unsafe { std::slice::from_raw_parts(part.values, length) };
            !values.iter().fold(false, |found, &word| found | A::has_special(word))
        })
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

/// scores[key][lane] = Σ_d k[key][d] · q[d][lane], d ascending; KU keys at a time. bfloat16 is multiplied by `scale` behind the sum.
///
/// # Safety
/// As for [`Arithmetic`]; the parts have their keys rounded up to TAIL readable, q [D][NV · LANES], scores TAIL more rows than keys of NV · LANES.
#[inline(always)]
pub unsafe fn multiply_keys<A: Arithmetic, const NV: usize, const KU: usize>(
    tile: &Tile,
    queries: &[f32],
    scale: f32,
    scores: &mut [f32],
    ahead: &Ahead,
) {
    for part in tile.parts() {
        let mut key = 0;
        // SAFETY: the caller's promise; rows behind a part are scratch, or those of the part behind.
        unsafe {
            let scores = &mut scores[part.first * NV * A::S::LANES..];
            while key + KU <= part.count {
                multiply_block::<A, NV, KU>(part, tile.dim, key, queries, scale, scores, ahead);
                key += KU;
            }
            // Where KU is no multiple of TAIL, a last block could reach beyond what is readable.
            while key < part.count && key + TAIL <= part.count.next_multiple_of(TAIL) {
                multiply_block::<A, NV, TAIL>(part, tile.dim, key, queries, scale, scores, ahead);
                key += TAIL;
            }
            while key < part.count {
                multiply_block::<A, NV, 1>(part, tile.dim, key, queries, scale, scores, ahead);
                key += 1;
            }
        }
    }
}

/// # Safety
/// As for [`multiply_keys`], with `key + KU` readable keys.
#[inline(always)]
unsafe fn multiply_block<A: Arithmetic, const NV: usize, const KU: usize>(
    part: &Part,
    dim: usize,
    key: usize,
    queries: &[f32],
    scale: f32,
    scores: &mut [f32],
    ahead: &Ahead,
) {
    let width = NV * A::S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let (k, q, s) = (
            part.keys.add(key * dim),
            queries.as_ptr(),
            scores.as_mut_ptr().add(key * width),
        );
        let mut sums = [[A::S::splat(0.0); NV]; KU];
        let mut query = [A::S::splat(0.0); NV];
        for channel in 0..dim {
            ahead.ask::<A::S>();
            for vector in 0..NV {
                query[vector] = A::S::load(q.add(channel * width + vector * A::S::LANES));
            }
            for (unit, sums) in sums.iter_mut().enumerate() {
                let element = A::S::splat(*k.add(unit * dim + channel));
                for vector in 0..NV {
                    sums[vector] = A::multiply_add(element, query[vector], sums[vector]);
                }
            }
        }
        for (unit, sums) in sums.iter().enumerate() {
            for (vector, &sum) in sums.iter().enumerate() {
                // In f32 the scale is in q.
                let sum = if A::BF16 { A::S::mul(sum, A::S::splat(scale)) } else { sum };
                A::S::store(s.add(unit * width + vector * A::S::LANES), sum);
            }
        }
    }
}

/// Scores → probabilities relative to the running maximum, in words; keys ascending. Returns the factors of what was summed before.
///
/// The maximum of bfloat16 is the next integer: factors are then powers of two, and a probability rounds to the same digits whatever the
/// maximum is.
///
/// # Safety
/// As for [`Arithmetic`]; scores [count][NV · LANES], largest and sums [NV · LANES].
#[inline(always)]
pub unsafe fn normalize<A: Arithmetic, const NV: usize, const HIDDEN: bool>(
    scores: &mut [f32],
    count: usize,
    bits: &[[u32; NV]; TILE],
    largest: &mut [f32],
    sums: &mut [f32],
) -> [V<A>; NV] {
    let width = NV * A::S::LANES;
    // SAFETY: keys below count, lanes below width.
    unsafe {
        let mut alpha = [A::S::splat(1.0); NV];
        for vector in 0..NV {
            let at = scores.as_mut_ptr().add(vector * A::S::LANES);
            let (largest, sums) = (
                largest.as_mut_ptr().add(vector * A::S::LANES),
                sums.as_mut_ptr().add(vector * A::S::LANES),
            );
            let before = A::S::load(largest);
            // Several at once, as a maximum takes longer than a load; the order makes no difference.
            let mut tops = [before; 4];
            for key in 0..count {
                let mut score = A::S::load(at.add(key * width));
                if HIDDEN {
                    score = A::S::select(bits[key][vector], score, A::S::splat(NONE));
                }
                tops[key % 4] = A::S::max(score, tops[key % 4]);
            }
            let mut top = A::S::max(A::S::max(tops[0], tops[1]), A::S::max(tops[2], tops[3]));
            if A::BF16 {
                let zero = A::S::splat(0.0);
                top = A::S::sub(zero, A::S::floor(A::S::sub(zero, top)));
            }
            alpha[vector] = exp2_down::<A::S>(A::S::sub(before, top));
            A::S::store(largest, top);
            let mut sum = A::S::mul(A::S::load(sums), alpha[vector]);
            for word in 0..count.div_ceil(A::PACKED) {
                let first = word * A::PACKED;
                // Numbers of the word; one behind the last key is 0.
                let mut numbers = [A::S::splat(0.0); 2];
                for key in first..count.min(first + A::PACKED) {
                    let probability = exp2_down::<A::S>(A::S::sub(A::S::load(at.add(key * width)), top));
                    numbers[key - first] = if HIDDEN {
                        A::S::select(bits[key][vector], probability, A::S::splat(0.0))
                    } else {
                        probability
                    };
                }
                let p = A::pack(numbers[0], numbers[1]);
                sum = A::accumulate(p, sum);
                A::S::store(at.add(word * width), p);
            }
            A::S::store(sums, sum);
        }
        alpha
    }
}

/// output[d][lane] = output · alpha + Σ_key p[key][lane] · v[key][d], keys ascending.
///
/// # Safety
/// As for [`Arithmetic`]; scores [words of count][NV · LANES], output [Dv][NV · LANES].
#[inline(always)]
pub unsafe fn add_values<A: Arithmetic, const NV: usize, const CU: usize, const GUARDED: bool>(
    tile: &Tile,
    scores: &[f32],
    alpha: &[V<A>; NV],
    bits: &[[u32; NV]; TILE],
    output: &mut [f32],
) {
    let mut channel = 0;
    // SAFETY: channels below value_dim, keys below count.
    unsafe {
        while channel + CU <= tile.value_dim {
            add_channels::<A, NV, CU, GUARDED>(tile, channel, scores, alpha, bits, output);
            channel += CU;
        }
        while channel + TAIL <= tile.value_dim {
            add_channels::<A, NV, TAIL, GUARDED>(tile, channel, scores, alpha, bits, output);
            channel += TAIL;
        }
        while channel < tile.value_dim {
            add_channels::<A, NV, 1, GUARDED>(tile, channel, scores, alpha, bits, output);
            channel += 1;
        }
    }
}

/// # Safety
/// As for [`add_values`]; `channel + CU ≤ Dv`.
#[inline(always)]
unsafe fn add_channels<A: Arithmetic, const NV: usize, const CU: usize, const GUARDED: bool>(
    tile: &Tile,
    channel: usize,
    scores: &[f32],
    alpha: &[V<A>; NV],
    bits: &[[u32; NV]; TILE],
    output: &mut [f32],
) {
    let width = NV * A::S::LANES;
    // SAFETY: as for `add_values`.
    unsafe {
        let o = output.as_mut_ptr().add(channel * width);
        let mut sums = [[A::S::splat(0.0); NV]; CU];
        for (unit, sums) in sums.iter_mut().enumerate() {
            for vector in 0..NV {
                sums[vector] = A::S::mul(A::S::load(o.add(unit * width + vector * A::S::LANES)), alpha[vector]);
            }
        }
        let mut p = [A::S::splat(0.0); NV];
        for part in tile.parts() {
            let scores = scores.as_ptr().add(part.first / A::PACKED * width);
            for word in 0..part.count.div_ceil(A::PACKED) {
                for vector in 0..NV {
                    p[vector] = A::S::load(scores.add(word * width + vector * A::S::LANES));
                }
                for (unit, sums) in sums.iter_mut().enumerate() {
                    let value = *part.values.add(word * tile.value_dim + channel + unit);
                    for vector in 0..NV {
                        sums[vector] = if GUARDED {
                            let (key, last) = (part.first + word * A::PACKED, part.first + part.count);
                            let second = key + A::PACKED - 1;
                            let seen = [bits[key][vector], if second < last { bits[second][vector] } else { 0 }];
                            A::multiply_add_seen(p[vector], value, sums[vector], seen)
                        } else {
                            A::multiply_add(p[vector], A::S::splat(value), sums[vector])
                        };
                    }
                }
            }
        }
        for (unit, sums) in sums.iter().enumerate() {
            for (vector, &sum) in sums.iter().enumerate() {
                A::S::store(o.add(unit * width + vector * A::S::LANES), sum);
            }
        }
    }
}
