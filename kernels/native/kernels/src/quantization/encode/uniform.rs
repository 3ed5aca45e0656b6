//! Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: codes are made with the scale before it is rounded to half precision.

use super::{inverse_of, put_half, put_nibbles, signed_peak, to_int};

fn put_fifth_bits(out: &mut [u8], codes: &[u8]) {
    for (e, &code) in codes.iter().enumerate() {
        out[e >> 3] |= ((code >> 4) & 1) << (e & 7);
    }
}

/// The weight of largest magnitude gets the lowest code.
pub fn symmetric(x: &[f32], out: &mut [u8], bits: u32) {
    let half = (1 << (bits - 1)) as f32;
    let d = signed_peak(x) / -half;
    let inverse = inverse_of(d);
    let most = 2 * half as i32 - 1;
    let codes: [u8; 32] = std::array::from_fn(|e| most.min(to_int(x[e] * inverse + half + 0.5) & 255) as u8);
    put_half(out, 0, d);
    if bits == 5 {
        put_fifth_bits(&mut out[2..], &codes);
    }
    put_nibbles(&mut out[if bits == 5 { 6 } else { 2 }..], &codes);
}

/// A scale and the smallest weight.
pub fn offset(x: &[f32], out: &mut [u8], bits: u32) {
    let most = (1 << bits) - 1;
    let least = x.iter().fold(x[0], |a, &b| if b < a { b } else { a });
    let largest = x.iter().fold(x[0], |a, &b| if b > a { b } else { a });
    let d = (largest - least) / most as f32;
    let inverse = inverse_of(d);
    let codes: [u8; 32] = std::array::from_fn(|e| most.min(to_int((x[e] - least) * inverse + 0.5) & 255) as u8);
    put_half(out, 0, d);
    put_half(out, 2, least);
    if bits == 5 {
        put_fifth_bits(&mut out[4..], &codes);
    }
    put_nibbles(&mut out[if bits == 5 { 8 } else { 4 }..], &codes);
}

pub fn bytes(x: &[f32], out: &mut [u8]) {
    let d = signed_peak(x).abs() / 127.0;
    let inverse = inverse_of(d);
    put_half(out, 0, d);
    for (byte, value) in out[2..].iter_mut().zip(x) {
        *byte = (to_int((value * inverse).round()) & 255) as u8;
    }
}
