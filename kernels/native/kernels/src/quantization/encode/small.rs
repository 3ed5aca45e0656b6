//! Ternary, one-bit and two-bit blocks: one scale, codes by rounding.

use super::{inverse_of, put_half, put_two_bits, signed_peak, to_int};

/// −1, 0, 1 as 0, 1, 2, over the largest magnitude. What is no number because the inverse overflowed is 0.
fn ternary_digits(x: &[f32]) -> (f32, [u8; 256]) {
    let d = signed_peak(x).abs();
    let inverse = inverse_of(d);
    let digits = std::array::from_fn(|e| {
        let scaled = x[e] * inverse;
        if scaled.is_finite() {
            (scaled.round() as i32 + 1) as u8
        } else {
            1
        }
    });
    (d, digits)
}

/// Five base-3 digits, the first the most significant, as a fraction of 256 rounded up.
fn ternary_byte(digits: impl Iterator<Item = u8>) -> u8 {
    let (mut value, mut count) = (0u32, 0);
    for digit in digits {
        value = 3 * value + u32::from(digit);
        count += 1;
    }
    (value * 3u32.pow(5 - count) * 256).div_ceil(243) as u8
}

pub fn tq1(x: &[f32], out: &mut [u8]) {
    let (d, digits) = ternary_digits(x);
    let byte = |first: usize, stride: usize, count: usize| ternary_byte((0..count).map(|n| digits[first + n * stride]));
    for j in 0..32 {
        out[j] = byte(j, 32, 5);
    }
    for j in 0..16 {
        out[32 + j] = byte(160 + j, 16, 5);
    }
    for j in 0..4 {
        out[48 + j] = byte(240 + j, 4, 4);
    }
    put_half(out, 52, d);
}

pub fn tq2(x: &[f32], out: &mut [u8]) {
    let (d, digits) = ternary_digits(x);
    put_two_bits(&mut out[..64], &digits);
    put_half(out, 64, d);
}

pub fn q1(x: &[f32], out: &mut [u8]) {
    let sum = x.iter().fold(0f32, |sum, x| sum + x.abs());
    put_half(out, 0, sum / 128.0);
    for (e, &x) in x.iter().enumerate() {
        if x >= 0.0 {
            out[2 + (e >> 3)] |= 1 << (e & 7);
        }
    }
}

pub fn q2(x: &[f32], out: &mut [u8]) {
    let d = signed_peak(x).abs();
    let inverse = inverse_of(d);
    put_half(out, 0, d);
    for (e, x) in x.iter().enumerate() {
        let level = to_int((x * inverse).round());
        out[2 + (e >> 2)] |= (level.saturating_add(1).clamp(0, 3) as u8) << (2 * (e & 3));
    }
}
