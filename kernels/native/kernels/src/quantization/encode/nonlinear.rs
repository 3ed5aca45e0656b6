//! IQ4_NL and IQ4_XS: four-bit codes of 16 levels that are denser around 0.

use super::{inverse_of, nearest_int, put_half, put_nibbles, signed_peak, GROUP_EPSILON};
use crate::quantization::format::NONLINEAR;

/// Trials on either side of the first scale.
const TRIES: i32 = 7;

fn level(code: usize) -> f32 {
    f32::from(NONLINEAR[code]) - 128.0
}

/// The code of the nearest level; half-way between two, the upper one.
fn nearest_level(x: f32) -> u8 {
    let mut code = 0;
    while code < 15 && x - level(code) >= level(code + 1) - x {
        code += 1;
    }
    code as u8
}

/// Σ x²·level·x and Σ x²·level² of a group under an inverse scale.
fn sums_of(x: &[f32], inverse: f32) -> (f32, f32) {
    let (mut xq, mut q2) = (0f32, 0f32);
    for &x in x {
        let level = level(usize::from(nearest_level(inverse * x)));
        let product = x * x * level;
        xq += product * x;
        q2 += product * level;
    }
    (xq, q2)
}

/// Scale of 32 weights: the least-squares one under the best of the inverse scales (i − 127) / peak.
fn search_scale(x: &[f32]) -> f32 {
    let peak = signed_peak(x);
    if peak.abs() < GROUP_EPSILON {
        return 0.0;
    }
    let (xq, q2) = sums_of(x, 1.0 / (-peak / level(0)));
    let mut d = if q2 > 0.0 { xq / q2 } else { 0.0 };
    let mut best = d * xq;
    for index in -TRIES..=TRIES {
        let (xq, q2) = sums_of(x, (index as f32 + level(0)) / peak);
        if q2 > 0.0 && xq * xq > best * q2 {
            d = xq / q2;
            best = d * xq;
        }
    }
    d
}

fn codes_of(x: &[f32], inverse: f32) -> [u8; 32] {
    std::array::from_fn(|e| nearest_level(inverse * x[e]))
}

pub fn iq4nl(x: &[f32], out: &mut [u8]) {
    let d = search_scale(x);
    put_half(out, 0, d);
    put_nibbles(&mut out[2..], &codes_of(x, inverse_of(d)));
}

/// Signed six-bit scales per 32, of which the largest gets −32.
pub fn iq4xs(x: &[f32], out: &mut [u8]) {
    let scales: [f32; 8] = std::array::from_fn(|t| search_scale(&x[32 * t..32 * t + 32]));
    let d = -signed_peak(&scales) / 32.0;
    let inverse = inverse_of(d);
    put_half(out, 0, d);
    for (t, scale) in scales.iter().enumerate() {
        let scale = nearest_int(inverse * scale).clamp(-32, 31);
        let codes = codes_of(&x[32 * t..32 * t + 32], inverse_of(d * scale as f32));
        put_nibbles(&mut out[8 + 16 * t..], &codes);
        let stored = (scale + 32) as u8;
        out[4 + t / 2] |= (stored & 15) << (4 * (t & 1));
        out[2 + t / 4] |= (stored >> 4) << (2 * (t & 3));
    }
}
