//! What hides keys by their scores: N:M softmax and tiles far below the greatest score.

use super::chunk::{Bits, Chunk};
use super::list::{List, Visit, TILE};
use super::partial::NONE;
use super::shape::Most;
use super::work::Work;
use crate::simd::Simd;

/// Hides the tile from lanes whose greatest score in it is no more than the greatest one before, `reached`, less `skip`, and notes what is reached now. Returns whether it did so for any
/// lane, and whether any lane still sees the tile. A lane that has seen no key keeps it.
///
/// # Safety
/// As for [`Simd`]; scores [count][NV · LANES], reached [NV · LANES].
#[inline(always)]
pub unsafe fn leave_out<S: Simd, const NV: usize>(
    scores: &[f32],
    count: usize,
    skip: f32,
    reached: &mut [f32],
    bits: &mut Bits<NV>,
) -> (bool, bool) {
    let width = NV * S::LANES;
    let every = u32::MAX >> (32 - S::LANES);
    let (mut left, mut any) = (false, false);
    for vector in 0..NV {
        // SAFETY: keys below count, lanes below width.
        let out = unsafe {
            let at = vector * S::LANES;
            let mut top = S::splat(NONE);
            for key in 0..count {
                let score = S::load(scores.as_ptr().add(key * width + at));
                top = S::max(S::select(bits[key][vector], score, S::splat(NONE)), top);
            }
            let before = S::load(reached.as_ptr().add(at));
            S::store(reached.as_mut_ptr().add(at), S::max(top, before));
            let unseen = S::greater(S::splat(NONE / 2.0), before);
            !S::greater(top, S::sub(before, S::splat(skip))) & !unseen & every
        };
        any |= out != every;
        if out != 0 {
            left = true;
            for bits in bits.iter_mut().take(count) {
                bits[vector] &= !out;
            }
        }
    }
    (left, any)
}

/// Keeps the greatest scores of every group of positions and hides the other contestants.
///
/// # Safety
/// As for [`leave_out`].
#[inline(always)]
pub unsafe fn keep_most<S: Simd, const NV: usize>(
    work: &Work,
    chunk: &Chunk,
    (visit, list): (&Visit, &List),
    most: Most,
    scores: &[f32],
    bits: &mut Bits<NV>,
) {
    let (width, every) = (NV * S::LANES, u32::MAX >> (32 - S::LANES));
    let mut positions = [0usize; TILE];
    let pieces = list.pieces[visit.pieces.clone()].iter();
    let all = pieces.flat_map(|piece| piece.positions());
    positions.iter_mut().zip(all).for_each(|(slot, position)| *slot = position);
    for vector in 0..NV {
        let lanes: [i64; 16] = std::array::from_fn(|lane| match lane < S::LANES {
            true => chunk.position(work, vector * S::LANES + lane) - most.recent,
            false => i64::MAX,
        });
        let (nearest, furthest) = lanes[..S::LANES]
            .iter()
            .fold((i64::MAX, i64::MIN), |(low, high), &at| (low.min(at), high.max(at)));
        let old = |position: i64| match position {
            _ if position < most.sinks || position > furthest => 0,
            _ if position <= nearest => every,
            _ => (0..S::LANES).fold(0, |old, lane| old | u32::from(position <= lanes[lane]) << lane),
        };
        let mut first = 0;
        while first < visit.count {
            let group = positions[first] / most.group;
            let same = positions[first..visit.count]
                .iter()
                .take_while(|&&position| position / most.group == group);
            let keys = first..first + same.count();
            let mut contest = [0u32; TILE];
            for key in keys.clone() {
                contest[key] = bits[key][vector] & old(positions[key] as i64);
            }
            // SAFETY: keys below count, lanes below width.
            unsafe {
                let score = |key: usize| S::load(scores.as_ptr().add(key * width + vector * S::LANES));
                // NaN neither wins nor loses.
                let mut numbers = [0u32; TILE];
                for key in keys.clone() {
                    let (score, infinity) = (score(key), S::splat(f32::INFINITY));
                    numbers[key] = S::greater(infinity, score) | S::greater(score, S::splat(0.0));
                }
                for key in keys.clone() {
                    let mut better = S::splat(0.0);
                    for other in keys.clone().filter(|&other| other != key) {
                        // Ties go to the lower position.
                        let wins = match other < key {
                            true => !S::greater(score(key), score(other)) & numbers[key] & numbers[other],
                            false => S::greater(score(other), score(key)),
                        };
                        let one = S::select(wins & contest[other], S::splat(1.0), S::splat(0.0));
                        better = S::add(better, one);
                    }
                    let lost = !S::greater(S::splat(most.kept as f32), better);
                    bits[key][vector] &= !(lost & contest[key]);
                }
            }
            first = keys.end;
        }
    }
}
