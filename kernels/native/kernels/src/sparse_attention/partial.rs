//! Results of key segments and how they merge. The order is fixed: segments ascending, each one whole before the next, so a row has the same
//! bits whether one thread sums its segments or several do.
//!
//! (m, s, o) ⊕ (m', s', o') = (M, s·2^(m−M) + s'·2^(m'−M), o·2^(m−M) + o'·2^(m'−M)) with M = max(m, m'); base-2 exponents throughout.

use crate::simd::{exp2, Scalar};

/// Stands for "no key yet": finite, so that differences of two of them are 0 and not NaN.
pub const NONE: f32 = -1e30;

/// Factors of the two sides of a merge and the common maximum.
pub fn factors(m: f32, other: f32) -> (f32, f32, f32) {
    let top = if other > m { other } else { m };
    // SAFETY: the scalar path needs no CPU features.
    let factor = |m: f32| unsafe {
        exp2::<Scalar>(if m - top > -200.0 || (m - top).is_nan() {
            m - top
        } else {
            -200.0
        })
    };
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
