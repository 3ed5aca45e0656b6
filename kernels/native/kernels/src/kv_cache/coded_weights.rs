//! Scores of a page become weights of its values.

use crate::simd::{exp2_down, Simd};
use crate::sparse_attention::partial::NONE;
use crate::{simd_dispatch, Cpu};

/// Scores → probabilities relative to the running maximum, and how much what was summed before counts.
pub fn weigh(cpu: Cpu, scores: &mut [f32], (largest, sums): (&mut [f32], &mut [f32]), alpha: &mut [f32]) {
    assert!(
        scores.len().is_multiple_of(32 * largest.len().max(1)) && sums.len() == largest.len() && alpha.len() == largest.len()
    );
    simd_dispatch!(cpu, weigh_path(scores: &mut [f32], largest: &mut [f32], sums: &mut [f32], alpha: &mut [f32]));
}

/// # Safety
/// As for [`Simd`]; LANES divides the scores of a row.
#[inline(always)]
unsafe fn weigh_path<S: Simd>(scores: &mut [f32], largest: &mut [f32], sums: &mut [f32], alpha: &mut [f32]) {
    let count = scores.len() / largest.len().max(1);
    for (row, scores) in scores.chunks_exact_mut(count).enumerate() {
        let before = largest[row];
        let at = scores.as_mut_ptr();
        // SAFETY: vectors lie within the row.
        unsafe {
            let mut tops = S::splat(before);
            for key in (0..count).step_by(S::LANES) {
                tops = S::max(S::load(at.add(key)), tops);
            }
            let mut each = [NONE; 16];
            S::store(each.as_mut_ptr(), tops);
            for width in [8, 4, 2, 1] {
                for lane in 0..width {
                    let other = each[lane + width];
                    each[lane] = if other > each[lane] { other } else { each[lane] };
                }
            }
            let top = each[0];
            S::store(each.as_mut_ptr(), exp2_down::<S>(S::splat(before - top)));
            alpha[row] = each[0];
            let mut own = S::splat(0.0);
            for key in (0..count).step_by(S::LANES) {
                let probability = exp2_down::<S>(S::sub(S::load(at.add(key)), S::splat(top)));
                S::store(at.add(key), probability);
                own = S::add(own, probability);
            }
            largest[row] = top;
            sums[row] = sums[row] * alpha[row] + total::<S>(own);
        }
    }
}

/// The sum of the lanes, halves on halves.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
pub unsafe fn total<S: Simd>(v: S::V) -> f32 {
    let mut each = [0f32; 16];
    // SAFETY: LANES ≤ 16.
    unsafe { S::store(each.as_mut_ptr(), v) };
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            each[lane] += each[lane + width];
        }
    }
    each[0]
}
