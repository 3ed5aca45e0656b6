//! K-quants with a scale and a minimum per group: Q2_K, Q4_K, Q5_K.

use super::{nearest_int, put_half, put_nibbles_of_64, put_two_bits};
use crate::quantization::rows::q4k_scales;

/// Scales that are tried: (from + step · i + levels) / range of the group, i = 0 … tries.
struct Search {
    /// Largest code.
    levels: i32,
    from: f32,
    step: f32,
    tries: usize,
    /// Errors are weighted by their magnitude instead of their square.
    absolute: bool,
}

const TWO_BITS: Search = Search {
    levels: 3,
    from: -0.5,
    step: 0.1,
    tries: 15,
    absolute: true,
};
const FOUR_BITS: Search = Search {
    levels: 15,
    from: -1.0,
    step: 0.1,
    tries: 20,
    absolute: false,
};
const FIVE_BITS: Search = Search {
    levels: 31,
    from: -0.5,
    step: 0.1,
    tries: 15,
    absolute: false,
};

/// Weighted least squares of scale · code + minimum, minimum at most 0; none when all codes are the same.
fn solve(x: &[f32], weights: &[f32], codes: &[u8], sum_w: f32, sum_x: f32) -> Option<(f32, f32)> {
    let (mut sum_l, mut sum_l2, mut sum_xl) = (0f32, 0f32, 0f32);
    for ((&x, &weight), &code) in x.iter().zip(weights).zip(codes) {
        let product = weight * f32::from(code);
        sum_l += product;
        sum_l2 += product * f32::from(code);
        sum_xl += product * x;
    }
    let determinant = sum_w * sum_l2 - sum_l * sum_l;
    if determinant.is_nan() || determinant <= 0.0 {
        return None;
    }
    let minimum = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
    if minimum > 0.0 {
        return Some((sum_xl / sum_l2, 0.0));
    }
    Some(((sum_w * sum_xl - sum_x * sum_l) / determinant, minimum))
}

/// Scale and minimum (≥ 0) of a group, and its codes: starting from its range, which includes 0, each trial rounds to codes and solves for
/// scale and minimum; the one with the least weighted error stays.
fn search(x: &[f32], weights: &[f32], codes: &mut [u8], search: &Search) -> (f32, f32) {
    let (mut least, mut most) = (x[0], x[0]);
    let mut sum_w = weights[0];
    let mut sum_x = sum_w * x[0];
    for (&x, &weight) in x.iter().zip(weights).skip(1) {
        least = least.min(x);
        most = most.max(x);
        sum_w += weight;
        sum_x += weight * x;
    }
    if least > 0.0 {
        least = 0.0;
    }
    if most == least {
        codes.fill(0);
        return (0.0, -least);
    }
    let range = most - least;
    let levels = search.levels as f32;
    let round = |inverse: f32, least: f32, out: &mut [u8]| {
        for (code, &x) in out.iter_mut().zip(x) {
            *code = nearest_int(inverse * (x - least)).clamp(0, search.levels) as u8;
        }
    };
    let error_of = |scale: f32, minimum: f32, trial: &[u8]| {
        let mut sum = 0f32;
        for ((&x, &weight), &code) in x.iter().zip(weights).zip(trial) {
            let difference = scale * f32::from(code) + minimum - x;
            sum += weight
                * if search.absolute {
                    difference.abs()
                } else {
                    difference * difference
                };
        }
        sum
    };
    let inverse = levels / range;
    let (mut scale, mut minimum) = (1.0 / inverse, least);
    round(inverse, least, codes);
    let mut best = error_of(scale, minimum, codes);
    let mut trial = [0u8; 32];
    let trial = &mut trial[..x.len()];
    for index in 0..=search.tries {
        // From the best minimum so far on.
        round(
            (search.from + search.step * index as f32 + levels) / (most - minimum),
            minimum,
            trial,
        );
        let Some(fit) = solve(x, weights, trial, sum_w, sum_x) else {
            continue;
        };
        let error = error_of(fit.0, fit.1, trial);
        if error < best {
            codes.copy_from_slice(trial);
            best = error;
            (scale, minimum) = fit;
        }
    }
    (scale, -minimum)
}

/// Codes, and scale and minimum of every group of `N` in a super-block.
fn fit_groups<const N: usize>(x: &[f32], how: &Search, weighting: fn(&[f32], &mut [f32])) -> ([u8; 256], Vec<f32>, Vec<f32>) {
    let mut codes = [0u8; 256];
    let mut fits = (Vec::with_capacity(256 / N), Vec::with_capacity(256 / N));
    for (values, codes) in x.chunks_exact(N).zip(codes.chunks_exact_mut(N)) {
        let mut weights = [0f32; N];
        weighting(values, &mut weights);
        let (scale, minimum) = search(values, &weights, codes, how);
        fits.0.push(scale);
        fits.1.push(minimum);
    }
    (codes, fits.0, fits.1)
}

fn magnitudes(x: &[f32], weights: &mut [f32]) {
    for (weight, x) in weights.iter_mut().zip(x) {
        *weight = x.abs();
    }
}

/// Root mean square of the group plus the magnitude.
fn levelled(x: &[f32], weights: &mut [f32]) {
    let sum = x.iter().fold(0f32, |sum, x| sum + x * x);
    let mean = (sum / x.len() as f32).sqrt();
    for (weight, x) in weights.iter_mut().zip(x) {
        *weight = mean + x.abs();
    }
}

fn largest(values: &[f32]) -> f32 {
    values
        .iter()
        .fold(0.0, |most, &value| if value > most { value } else { most })
}

/// Codes of a group under the scale and minimum that the file has; without a scale they stay as they are.
fn round_group(x: &[f32], d: f32, minimum: f32, levels: i32, codes: &mut [u8]) {
    if d != 0.0 {
        for (code, x) in codes.iter_mut().zip(x) {
            *code = nearest_int((x + minimum) / d).clamp(0, levels) as u8;
        }
    }
}

pub fn q2k(x: &[f32], out: &mut [u8]) {
    let (mut codes, scales, minima) = fit_groups::<16>(x, &TWO_BITS, magnitudes);
    let (top_scale, top_minimum) = (largest(&scales), largest(&minima));
    let code = |value: f32, top: f32| if top > 0.0 { nearest_int(15.0 / top * value) } else { 0 };
    let d = put_half(out, 80, top_scale / 15.0);
    let d_minimum = put_half(out, 82, top_minimum / 15.0);
    for group in 0..16 {
        out[group] = (code(scales[group], top_scale) | code(minima[group], top_minimum) << 4) as u8;
        let range = 16 * group..16 * group + 16;
        let (scale, minimum) = (f32::from(out[group] & 15), f32::from(out[group] >> 4));
        round_group(&x[range.clone()], d * scale, d_minimum * minimum, 3, &mut codes[range]);
    }
    put_two_bits(&mut out[16..80], &codes);
}

/// Six-bit scales and minima per 32; writes them and returns the codes.
fn six_bit_scales(x: &[f32], out: &mut [u8], how: &Search) -> [u8; 256] {
    let (mut codes, scales, minima) = fit_groups::<32>(x, how, levelled);
    let six_bits = |values: &[f32]| -> Vec<u8> {
        let top = largest(values);
        let inverse = if top > 0.0 { 63.0 / top } else { 0.0 };
        values
            .iter()
            .map(|value| (nearest_int(inverse * value) & 255).min(63) as u8)
            .collect()
    };
    let d = put_half(out, 0, largest(&scales) / 63.0);
    let d_minimum = put_half(out, 2, largest(&minima) / 63.0);
    let (s, m) = (six_bits(&scales), six_bits(&minima));
    for t in 0..4 {
        out[4 + t] = s[t] | (s[t + 4] >> 4) << 6;
        out[8 + t] = m[t] | (m[t + 4] >> 4) << 6;
        out[12 + t] = (s[t + 4] & 15) | (m[t + 4] & 15) << 4;
    }
    for group in 0..8 {
        let (scale, minimum) = q4k_scales(&out[4..16], group);
        let range = 32 * group..32 * group + 32;
        let (scale, minimum) = (d * f32::from(scale), d_minimum * f32::from(minimum));
        round_group(&x[range.clone()], scale, minimum, how.levels, &mut codes[range]);
    }
    codes
}

pub fn q4k(x: &[f32], out: &mut [u8]) {
    let codes = six_bit_scales(x, out, &FOUR_BITS);
    put_nibbles_of_64(&mut out[16..144], &codes);
}

pub fn q5k(x: &[f32], out: &mut [u8]) {
    let codes = six_bit_scales(x, out, &FIVE_BITS);
    for (e, code) in codes.iter().enumerate() {
        out[16 + (e & 31)] |= (code >> 4) << (e >> 5);
    }
    put_nibbles_of_64(&mut out[48..176], &codes);
}
