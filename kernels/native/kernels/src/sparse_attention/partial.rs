//! Results of key segments and how they merge. The order is fixed: segments ascending, each one whole before the next, so a row has the same
//! bits whether one thread sums its segments or several do.
//!
//! (m, s, o) ⊕ (m', s', o') = (M, s·2^(m−M) + s'·2^(m'−M), o·2^(m−M) + o'·2^(m'−M)) with M = max(m, m'); base-2 exponents throughout.

use crate::simd::{exp2_down, Scalar, Simd};

/// Stands for "no key yet": finite, so that differences of two of them are 0 and not NaN.
pub const NONE: f32 = -1e30;

/// Factors of the two sides of a merge and the common maximum.
pub fn factors(m: f32, other: f32) -> (f32, f32, f32) {
    let top = if other > m { other } else { m };
    // SAFETY: the scalar path needs no CPU features.
    let factor = |m: f32| unsafe { exp2_down::<Scalar>(m - top) };
    (factor(m), factor(other), top)
}

/// A row's running result.
pub struct Row<'a> {
    pub largest: f32,
    pub sum: f32,
    pub values: &'a mut [f32],
}

impl Row<'_> {
    /// Adds a segment's result; one whose sum is 0 saw no key and changes nothing.
    pub fn merge(&mut self, largest: f32, sum: f32, values: &[f32]) {
        if sum == 0.0 {
            return;
        }
        let (a, b, top) = factors(self.largest, largest);
        self.largest = top;
        self.sum = self.sum * a + sum * b;
        for (value, &other) in self.values.iter_mut().zip(values) {
            *value = *value * a + other * b;
        }
    }
}

/// [`Row::merge`] of the rows in lanes: maxima and sums [lanes], values [Dv][lanes].
///
/// # Safety
/// As for [`Simd`]; LANES divides the number of lanes.
#[inline(always)]
pub unsafe fn merge_lanes<S: Simd>(
    largest: &[f32],
    sums: &[f32],
    values: &[f32],
    tops: &mut [f32],
    totals: &mut [f32],
    total: &mut [f32],
) {
    let width = largest.len();
    for lane in (0..width).step_by(S::LANES) {
        let seen = sums[lane..lane + S::LANES]
            .iter()
            .enumerate()
            .fold(0u32, |seen, (bit, &sum)| seen | u32::from(sum != 0.0) << bit);
        let all = seen.count_ones() as usize == S::LANES;
        // SAFETY: LANES lanes from `lane` lie within each row of `width`.
        unsafe {
            let (before, other) = (S::load(tops.as_ptr().add(lane)), S::load(largest.as_ptr().add(lane)));
            let top = S::max(other, before);
            let (a, b) = (exp2_down::<S>(S::sub(before, top)), exp2_down::<S>(S::sub(other, top)));
            S::store(tops.as_mut_ptr().add(lane), S::select(seen, top, before));
            for (from, to) in [(sums, &mut *totals), (values, &mut *total)] {
                let (from, to, rows) = (from.as_ptr().add(lane), to.as_mut_ptr().add(lane), from.len() / width);
                for at in (0..rows).map(|row| row * width) {
                    let before = S::load(to.add(at));
                    let after = S::add(S::mul(before, a), S::mul(S::load(from.add(at)), b));
                    S::store(to.add(at), if all { after } else { S::select(seen, after, before) });
                }
            }
        }
    }
}
