//! MXFP4 and NVFP4: blocks of E2M1 values.

use super::signed_peak;
use crate::quantization::format::FP4;
use crate::quantization::rows::exponent_scale;

/// The code whose value is nearest; of two equally near ones the one with the lower number.
fn nearest(value: f32, scale: f32) -> u8 {
    let (mut best, mut least) = (0, f32::INFINITY);
    for (code, &level) in FP4.iter().enumerate() {
        let error = ((f32::from(level) - 12.0) * scale - value).abs();
        if error < least {
            (best, least) = (code as u8, error);
        }
    }
    best
}

/// Nibbles of a group: its first half low, its second half high.
fn put_codes(out: &mut [u8], x: &[f32], scale: f32) {
    let half = x.len() / 2;
    for e in 0..half {
        out[e] = nearest(x[e], scale) | nearest(x[e + half], scale) << 4;
    }
}

/// The nearest unsigned E4M3 byte, half-way cases to even, at most 448.
fn unsigned_e4m3(value: f32) -> u8 {
    if value.is_nan() || value <= 0.0 {
        return 0;
    }
    let value = f64::from(value);
    // Bytes of positive values are in their order, so that rounding up carries into the exponent.
    let exponent = (value.log2().floor() as i32).max(-6);
    let units = (value / 2f64.powi(exponent - 3)).round_ties_even();
    (f64::from((exponent + 6) * 8) + units).min(126.0) as u8
}

fn e4m3_value(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3), f32::from(byte & 7));
    if exponent == 0 {
        mantissa / 512.0
    } else {
        (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7)
    }
}

/// Scale 2^(⌊log₂ peak⌋ − 2): the peak, 4 to 8 in its units, meets values up to 6.
pub fn mxfp4(x: &[f32], out: &mut [u8]) {
    let peak = signed_peak(x).abs();
    let e = if peak > 0.0 {
        ((f64::from(peak).log2() as f32).floor() as i32 + 125) as u8
    } else {
        0
    };
    out[0] = e;
    put_codes(&mut out[1..], x, exponent_scale(e));
}

/// Scales of 16: peak / 6 in E4M3, rounded to nearest.
pub fn nvfp4(x: &[f32], out: &mut [u8]) {
    for sub in 0..4 {
        let part = &x[16 * sub..16 * sub + 16];
        let byte = unsigned_e4m3(signed_peak(part).abs() / 6.0);
        out[sub] = byte;
        put_codes(&mut out[4 + 8 * sub..], part, e4m3_value(byte) / 2.0);
    }
}
