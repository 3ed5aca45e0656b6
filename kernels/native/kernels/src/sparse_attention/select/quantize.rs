//! Rows less their mean, as whole numbers times a step.

use crate::simd::Simd;

/// Adding it leaves a number of magnitude below 2^22, rounded to a whole one, in the low bits.
const WHOLE: f32 = 12_582_912.0;

/// row − mean into `centred`, its codes of at most ±levels into `codes`; returns the step. Codes beyond the row's elements are left alone.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
pub unsafe fn quantize<S: Simd>(row: &[f32], mean: &[f32], levels: f32, centred: &mut [f32], codes: &mut [i8]) -> f32 {
    let dim = row.len();
    let whole = dim / S::LANES * S::LANES;
    let (mean, centred, codes) = (&mean[..dim], &mut centred[..dim], &mut codes[..dim]);
    let mut largest = 0f32;
    // SAFETY: vectors below `whole`.
    unsafe {
        let mut most = S::splat(0.0);
        for at in (0..whole).step_by(S::LANES) {
            let value = S::sub(S::load(row.as_ptr().add(at)), S::load(mean.as_ptr().add(at)));
            S::store(centred.as_mut_ptr().add(at), value);
            most = S::max(S::max(value, S::sub(S::splat(0.0), value)), most);
        }
        let mut each = [0f32; 16];
        S::store(each.as_mut_ptr(), most);
        for &value in &each[..S::LANES] {
            largest = if value > largest { value } else { largest };
        }
    }
    for at in whole..dim {
        centred[at] = row[at] - mean[at];
        largest = if centred[at].abs() > largest {
            centred[at].abs()
        } else {
            largest
        };
    }
    let inverse = if largest > 0.0 { levels / largest } else { 0.0 };
    for (code, value) in codes.iter_mut().zip(centred.iter()) {
        *code = (value * inverse + WHOLE).to_bits() as i8;
    }
    largest / levels
}

/// Mean of rows that are handed over one by one, in f64; 0 of none.
pub struct Mean {
    sums: Vec<f64>,
    count: usize,
}

impl Mean {
    pub fn new(dim: usize) -> Self {
        Self {
            sums: vec![0.0; dim],
            count: 0,
        }
    }

    #[inline(always)]
    pub fn add(&mut self, row: &[f32]) {
        for (sum, &value) in self.sums.iter_mut().zip(row) {
            *sum += f64::from(value);
        }
        self.count += 1;
    }

    pub fn write(&self, out: &mut [f32]) {
        for (out, &sum) in out.iter_mut().zip(&self.sums) {
            *out = (sum / self.count.max(1) as f64) as f32;
        }
    }
}
