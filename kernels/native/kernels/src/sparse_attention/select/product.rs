//! scores[key][lane] = Σ_i keys[key][i] · panel[i][lane]: queries in lanes, keys row-major and broadcast element by element.

use crate::simd::Simd;

/// Vectors of lanes and keys of the register block, by the number of lanes: `$body::<S, NV, KU>(…)`.
#[macro_export]
macro_rules! with_blocks {
    ($S:ident, $body:ident($($argument:expr),* $(,)?)) => {
        match $S::LANES {
            16 => $body::<$S, 3, 8>($($argument),*),
            8 => $body::<$S, 2, 4>($($argument),*),
            _ => $body::<$S, 4, 4>($($argument),*),
        }
    };
}

/// # Safety
/// As for [`Simd`]; `keys` has `count` rows of `inner` elements, `panel` [inner][NV · LANES], `scores` [count][NV · LANES].
#[inline(always)]
pub unsafe fn products<S: Simd, const NV: usize, const KU: usize>(
    keys: *const f32,
    count: usize,
    inner: usize,
    panel: *const f32,
    scores: *mut f32,
) {
    let width = NV * S::LANES;
    let mut key = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while key + KU <= count {
            block::<S, NV, KU>(keys.add(key * inner), inner, panel, scores.add(key * width));
            key += KU;
        }
        while key < count {
            block::<S, NV, 1>(keys.add(key * inner), inner, panel, scores.add(key * width));
            key += 1;
        }
    }
}

/// # Safety
/// As for [`products`] with KU keys.
#[inline(always)]
unsafe fn block<S: Simd, const NV: usize, const KU: usize>(
    keys: *const f32,
    inner: usize,
    panel: *const f32,
    scores: *mut f32,
) {
    let width = NV * S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[S::splat(0.0); NV]; KU];
        let mut query = [S::splat(0.0); NV];
        for at in 0..inner {
            for vector in 0..NV {
                query[vector] = S::load(panel.add(at * width + vector * S::LANES));
            }
            for (unit, sums) in sums.iter_mut().enumerate() {
                let element = S::splat(*keys.add(unit * inner + at));
                for vector in 0..NV {
                    sums[vector] = S::fma(element, query[vector], sums[vector]);
                }
            }
        }
        for (unit, sums) in sums.iter().enumerate() {
            for (vector, &sum) in sums.iter().enumerate() {
                S::store(scores.add(unit * width + vector * S::LANES), sum);
            }
        }
    }
}
