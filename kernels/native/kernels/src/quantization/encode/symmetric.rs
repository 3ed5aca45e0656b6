//! K-quants with a signed scale per group of 16: Q3_K, Q6_K.

use super::{nearest_int, put_half, put_two_bits, signed_peak, GROUP_EPSILON};

const GROUP: usize = 16;

/// Weighted sums under codes: Σ x²·x·code and Σ x²·code².
fn sums_of(x: &[f32], codes: &[i32; GROUP]) -> (f32, f32) {
    let (mut xl, mut l2) = (0f32, 0f32);
    for (&x, &code) in x.iter().zip(codes) {
        let (weight, code) = (x * x, code as f32);
        xl += weight * x * code;
        l2 += weight * code * code;
    }
    (xl, l2)
}

fn round(x: &[f32], inverse: f32, half: i32) -> [i32; GROUP] {
    std::array::from_fn(|e| nearest_int(inverse * x[e]).clamp(-half, half - 1))
}

fn write_codes(codes: &mut [u8], levels: &[i32; GROUP], half: i32) {
    for (code, level) in codes.iter_mut().zip(levels) {
        *code = (level + half) as u8;
    }
}

/// Scale of a group as scale · code with weights x², the best of inverse scales −(half + i/10) / peak, i = 0, −9 … 9. Codes are written
/// biased by `half`; those of a group of zeros are 0.
fn search(x: &[f32], half: i32, codes: &mut [u8]) -> f32 {
    let peak = signed_peak(x);
    codes.fill(0);
    if peak.abs() < GROUP_EPSILON {
        return 0.0;
    }
    let trial = round(x, -(half as f32) / peak, half);
    write_codes(codes, &trial, half);
    let (xl, l2) = sums_of(x, &trial);
    let mut scale = if l2 == 0.0 { 0.0 } else { xl / l2 };
    let mut best = scale * xl;
    for index in -9..=9 {
        if index == 0 {
            continue;
        }
        let trial = round(x, -(half as f32 + 0.1 * index as f32) / peak, half);
        let (xl, l2) = sums_of(x, &trial);
        if l2 > 0.0 && xl * xl > best * l2 {
            write_codes(codes, &trial, half);
            scale = xl / l2;
            best = scale * xl;
        }
    }
    scale
}

/// The same for Q3_K: rounds once, then improves one code after the other against the rest of the group, for at most five sweeps.
fn sweep(x: &[f32], half: i32, codes: &mut [u8]) -> f32 {
    let peak = signed_peak(x);
    codes.fill(0);
    if peak.abs() < GROUP_EPSILON {
        return 0.0;
    }
    let mut current = round(x, -(half as f32) / peak, half);
    let (mut xl, mut l2) = sums_of(x, &current);
    for _ in 0..5 {
        let mut changed = false;
        for (&x, current) in x.iter().zip(&mut current) {
            let weight = x * x;
            let (weighted, code) = (weight * x, *current as f32);
            let rest_xl = xl - weighted * code;
            if rest_xl.is_nan() || rest_xl <= 0.0 {
                continue;
            }
            let rest_l2 = l2 - weight * code * code;
            let next = nearest_int(x * rest_l2 / rest_xl).clamp(-half, half - 1);
            if next == *current {
                continue;
            }
            let level = next as f32;
            let next_xl = rest_xl + weighted * level;
            let next_l2 = rest_l2 + weight * level * level;
            if next_l2 > 0.0 && next_xl * next_xl * l2 > xl * xl * next_l2 {
                *current = next;
                (xl, l2) = (next_xl, next_l2);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    write_codes(codes, &current, half);
    if l2 > 0.0 {
        xl / l2
    } else {
        0.0
    }
}

fn fit_groups(x: &[f32], half: i32, search: fn(&[f32], i32, &mut [u8]) -> f32) -> ([u8; 256], [f32; 16]) {
    let mut codes = [0u8; 256];
    let mut scales = [0f32; 16];
    for (t, scale) in scales.iter_mut().enumerate() {
        let range = GROUP * t..GROUP * (t + 1);
        *scale = search(&x[range.clone()], half, &mut codes[range]);
    }
    (codes, scales)
}

/// Codes of group t under the scale that the file has, biased by `half`; without a scale they stay as they are.
fn round_group(x: &[f32], t: usize, d: f32, half: i32, codes: &mut [u8; 256]) {
    if d != 0.0 {
        for e in GROUP * t..GROUP * (t + 1) {
            codes[e] = (nearest_int(x[e] / d).clamp(-half, half - 1) + half) as u8;
        }
    }
}

pub fn q3k(x: &[f32], out: &mut [u8]) {
    let (mut codes, scales) = fit_groups(x, 4, sweep);
    let largest = signed_peak(&scales);
    let inverse = if largest == 0.0 { 0.0 } else { -32.0 / largest };
    let d = put_half(out, 108, if largest == 0.0 { 0.0 } else { 1.0 / inverse });
    for (t, scale) in scales.iter().enumerate() {
        // Without any scale the stored ones are zero bits, which stand for −32.
        let scale = if largest == 0.0 {
            -32
        } else {
            i32::from(nearest_int(inverse * scale) as i8).clamp(-32, 31)
        };
        let stored = (scale + 32) as u8;
        out[96 + (t & 7)] |= (stored & 15) << if t < 8 { 0 } else { 4 };
        out[104 + (t & 3)] |= (stored >> 4) << (2 * (t >> 2));
        round_group(x, t, d * scale as f32, 4, &mut codes);
    }
    for (e, code) in codes.iter().enumerate() {
        out[e & 31] |= (code >> 2) << (e >> 5);
    }
    put_two_bits(&mut out[32..96], &codes);
}

pub fn q6k(x: &[f32], out: &mut [u8]) {
    let (mut codes, scales) = fit_groups(x, 32, search);
    let largest = signed_peak(&scales);
    if largest.abs() < GROUP_EPSILON {
        return;
    }
    let inverse = -128.0 / largest;
    let d = put_half(out, 208, 1.0 / inverse);
    for (t, scale) in scales.iter().enumerate() {
        let scale = nearest_int(inverse * scale).min(127) as i8;
        out[192 + t] = scale as u8;
        round_group(x, t, d * f32::from(scale), 32, &mut codes);
    }
    for (e, code) in codes.iter().enumerate() {
        let (h, j, l) = (e >> 7, (e >> 5) & 3, e & 31);
        out[64 * h + 32 * (j & 1) + l] |= (code & 15) << if j < 2 { 0 } else { 4 };
        out[128 + 32 * h + l] |= (code >> 4) << (2 * j);
    }
}
