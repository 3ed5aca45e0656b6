//! core_rope — rotary position embedding. Contract: packages/core-tensor/src/ops/rope.ts. 8 bytes an element moved; sine and cosine are
//! computed once per token and pair and shared by the heads.

use crate::call::Call;
use crate::pool::for_rows;
use crate::simd::Simd;
use crate::{ensure, simd_dispatch, Cpu, KernelError};

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let half = call.attr_usize(0)? == 0;
    let scale = call.attr(1)?;
    let x = call.input(0)?;
    ensure!(x.shape.len() == 3, "rope: x must be [tokens, heads, dim]");
    let (tokens, heads, dim) = (x.shape[0], x.shape[1], x.shape[2]);
    let x = x.f32s()?;
    let positions = call.input(1)?.i32s()?;
    let frequencies = call.input(2)?.f32s()?;
    let pairs = frequencies.len();
    ensure!(
        positions.len() == tokens && 2 * pairs <= dim,
        "rope: positions or frequencies do not fit x"
    );
    let (pool, cpu) = (call.pool, call.cpu);
    let y = call.output(0)?.f32s()?;
    ensure!(y.len() == x.len(), "rope: y has {} elements, x {}", y.len(), x.len());
    let row = heads * dim;
    if row == 0 {
        return Ok(());
    }
    for_rows(pool, y, tokens, 1 << 14, |first, y| {
        let mut turns = Turns::new(pairs);
        for (token, y) in y.chunks_exact_mut(row).enumerate() {
            let token = first + token;
            let x = &x[token * row..(token + 1) * row];
            turns.at(cpu, positions[token], frequencies, scale);
            for (x, y) in x.chunks_exact(dim).zip(y.chunks_exact_mut(dim)) {
                if half {
                    rotate_halves(cpu, x, y, &turns);
                } else {
                    rotate_pairs(x, y, &turns);
                }
                y[2 * pairs..].copy_from_slice(&x[2 * pairs..]);
            }
        }
    });
    Ok(())
}

/// Cosine and sine per pair of one token, times the scale.
struct Turns {
    angle: Vec<f64>,
    cosine: Vec<f32>,
    sine: Vec<f32>,
}

impl Turns {
    fn new(pairs: usize) -> Self {
        Self {
            angle: vec![0.0; pairs],
            cosine: vec![0.0; pairs],
            sine: vec![0.0; pairs],
        }
    }

    fn at(&mut self, cpu: Cpu, position: i32, frequencies: &[f32], scale: f64) {
        let mut far = false;
        for (angle, &frequency) in self.angle.iter_mut().zip(frequencies) {
            *angle = f64::from((f64::from(position) * f64::from(frequency)) as f32);
            far |= angle.abs() >= REDUCED || angle.is_nan();
        }
        if far {
            for (index, angle) in self.angle.iter().enumerate() {
                self.cosine[index] = (angle.cos() * scale) as f32;
                self.sine[index] = (angle.sin() * scale) as f32;
            }
            return;
        }
        turn(cpu, &self.angle, &mut self.cosine, &mut self.sine, scale);
    }
}

fn turn(cpu: Cpu, angle: &[f64], cosine: &mut [f32], sine: &mut [f32], scale: f64) {
    simd_dispatch!(cpu, turn_body(angle: &[f64], cosine: &mut [f32], sine: &mut [f32], scale: f64));
}

/// Angles below this are reduced exactly enough by the two constants of [`turn_body`].
const REDUCED: f64 = 1e6;

/// Sine and cosine to 1e-9: Cody–Waite reduction by multiples of π/2, Taylor polynomials on ±π/4. Products and sums are rounded one by one,
/// so that every path has the same bits.
///
/// # Safety
/// As for [`Simd`]; a plain loop that the compiler vectorises with the features of the path.
#[inline(always)]
#[allow(clippy::extra_unused_type_parameters)] // The type picks the path this is compiled for.
unsafe fn turn_body<S: Simd>(angle: &[f64], cosine: &mut [f32], sine: &mut [f32], scale: f64) {
    // π/2 in two parts; the first has 33 bits, so that its multiples up to 2^20 are exact.
    const HIGH: f64 = 1.570_796_326_734_125_6;
    const LOW: f64 = 6.077_100_506_506_192e-11;
    const MAGIC: f64 = 6_755_399_441_055_744.0; // 1.5 · 2^52
    for ((&angle, cosine), sine) in angle.iter().zip(cosine).zip(sine) {
        let shifted = angle * std::f64::consts::FRAC_2_PI + MAGIC;
        let quadrant = shifted.to_bits();
        let n = shifted - MAGIC;
        let r = (angle - n * HIGH) - n * LOW;
        let r2 = r * r;
        let s =
            r + r * r2 * (-1.0 / 6.0 + r2 * (1.0 / 120.0 + r2 * (-1.0 / 5040.0 + r2 * (1.0 / 362_880.0 - r2 / 39_916_800.0))));
        let c = 1.0 - r2 * (0.5 - r2 * (1.0 / 24.0 - r2 * (1.0 / 720.0 - r2 * (1.0 / 40_320.0 - r2 / 3_628_800.0))));
        let odd = quadrant & 1 != 0;
        let (a, b) = if odd { (s, c) } else { (c, s) };
        // cos: − in quadrants 1 and 2; sin: − in quadrants 2 and 3.
        let negative = |value: f64, flag: u64| f64::from_bits(value.to_bits() ^ (flag << 63));
        *cosine = (negative(a, ((quadrant >> 1) ^ quadrant) & 1) * scale) as f32;
        *sine = (negative(b, (quadrant >> 1) & 1) * scale) as f32;
    }
}

/// Pairs (i, i + pairs).
fn rotate_halves(cpu: Cpu, x: &[f32], y: &mut [f32], turns: &Turns) {
    simd_dispatch!(cpu, halves_body(x: &[f32], y: &mut [f32], turns: &Turns));
}

/// # Safety
/// As for [`Simd`]; x and y hold twice the pairs.
#[inline(always)]
#[allow(clippy::extra_unused_type_parameters)] // As above.
unsafe fn halves_body<S: Simd>(x: &[f32], y: &mut [f32], turns: &Turns) {
    let pairs = turns.cosine.len();
    let (first, second) = x[..2 * pairs].split_at(pairs);
    let (out_first, out_second) = y[..2 * pairs].split_at_mut(pairs);
    let (cosine, sine) = (&turns.cosine[..pairs], &turns.sine[..pairs]);
    for pair in 0..pairs {
        let (a, b, cosine, sine) = (first[pair], second[pair], cosine[pair], sine[pair]);
        out_first[pair] = a * cosine - b * sine;
        out_second[pair] = b * cosine + a * sine;
    }
}

/// Pairs (2 i, 2 i + 1).
fn rotate_pairs(x: &[f32], y: &mut [f32], turns: &Turns) {
    let pairs = x.chunks_exact(2).zip(y.chunks_exact_mut(2));
    for ((x, y), (&cosine, &sine)) in pairs.zip(turns.cosine.iter().zip(&turns.sine)) {
        y[0] = x[0] * cosine - x[1] * sine;
        y[1] = x[1] * cosine + x[0] * sine;
    }
}
