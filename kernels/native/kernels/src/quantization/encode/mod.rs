//! quantization_quantize — f32 rows → GGUF blocks. Contract: packages/quantization/src/ops/quantize.ts, whose encoders these repeat operation
//! for operation, every one rounded to f32, so that the bytes are the same. x f32 [R, K] → blocks u8 [R, rowBytes]; rows over the pool.

mod fp4;
mod nonlinear;
mod offset;
mod small;
mod symmetric;
mod uniform;

use super::format::WeightType;
use crate::call::Call;
use crate::pool::for_rows;
use crate::{ensure, KernelError};
use half::{bf16, f16};

/// Values smaller than this count as zero where a group is searched.
const GROUP_EPSILON: f32 = 1e-15;

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let kind = WeightType::from_id(call.attr_usize(0)?)?;
    ensure!(kind.of_gguf(), "quantize: there is no encoder of {kind:?}");
    let x = call.input(0)?;
    ensure!(x.shape.len() == 2, "quantize: x must have two axes");
    let (rows, k) = (x.shape[0], x.shape[1]);
    let row_bytes = kind.row_bytes(k)?;
    let x = x.f32s()?;
    let pool = call.pool;
    let blocks = call.output(0)?.elements::<u8>()?;
    ensure!(
        blocks.len() == rows * row_bytes,
        "quantize: blocks have {} bytes, {rows} rows of {k} take {}",
        blocks.len(),
        rows * row_bytes
    );
    for_rows(pool, blocks, rows, 1 << 12, |first, part| {
        for (row, bytes) in part.chunks_exact_mut(row_bytes).enumerate() {
            let row = first + row;
            encode_row(kind, &x[row * k..(row + 1) * k], bytes);
        }
    });
    Ok(())
}

fn encode_row(kind: WeightType, x: &[f32], out: &mut [u8]) {
    let (elements, bytes) = kind.block();
    for (values, block) in x.chunks_exact(elements).zip(out.chunks_exact_mut(bytes)) {
        match kind {
            WeightType::F32 => block.copy_from_slice(&values[0].to_le_bytes()),
            WeightType::F16 => block.copy_from_slice(&f16::from_f32(values[0]).to_le_bytes()),
            WeightType::BF16 => block.copy_from_slice(&bf16::from_f32(values[0]).to_le_bytes()),
            _ if values.iter().all(|value| value.is_finite()) => {
                block.fill(0);
                encode_block(kind, values, block);
            }
            // All bits set: the half-precision scales are NaN.
            _ => block.fill(255),
        }
    }
}

fn encode_block(kind: WeightType, x: &[f32], out: &mut [u8]) {
    match kind {
        WeightType::Q4_0 => uniform::symmetric(x, out, 4),
        WeightType::Q5_0 => uniform::symmetric(x, out, 5),
        WeightType::Q4_1 => uniform::offset(x, out, 4),
        WeightType::Q5_1 => uniform::offset(x, out, 5),
        WeightType::Q8_0 => uniform::bytes(x, out),
        WeightType::Q2K => offset::q2k(x, out),
        WeightType::Q4K => offset::q4k(x, out),
        WeightType::Q5K => offset::q5k(x, out),
        WeightType::Q3K => symmetric::q3k(x, out),
        WeightType::Q6K => symmetric::q6k(x, out),
        WeightType::Iq4Nl => nonlinear::iq4nl(x, out),
        WeightType::Iq4Xs => nonlinear::iq4xs(x, out),
        WeightType::Mxfp4 => fp4::mxfp4(x, out),
        WeightType::Nvfp4 => fp4::nvfp4(x, out),
        WeightType::Tq1 => small::tq1(x, out),
        WeightType::Tq2 => small::tq2(x, out),
        WeightType::Q1_0 => small::q1(x, out),
        WeightType::Q2_0 => small::q2(x, out),
        // Floats are written by the caller; the rest is refused.
        _ => {}
    }
}

/// Half-way cases to even, of |x| up to 2²²; NaN gives 0.
fn nearest_int(x: f32) -> i32 {
    ((x + 12_582_912.0).to_bits() & 0x7F_FFFF) as i32 - 0x40_0000
}

/// Towards zero; what does not fit gives −2³¹, as x86 converts.
fn to_int(x: f32) -> i32 {
    if x > -2_147_483_648.0 && x < 2_147_483_648.0 {
        x as i32
    } else {
        i32::MIN
    }
}

/// 1 / d, 0 of 0.
fn inverse_of(d: f32) -> f32 {
    if d == 0.0 {
        0.0
    } else {
        1.0 / d
    }
}

/// The element of largest magnitude, the first of equal ones.
fn signed_peak(x: &[f32]) -> f32 {
    x.iter()
        .fold(0.0, |peak: f32, &value| if value.abs() > peak.abs() { value } else { peak })
}

/// Stores a value in half precision and returns what is stored.
fn put_half(out: &mut [u8], at: usize, value: f32) -> f32 {
    let half = f16::from_f32(value);
    out[at..at + 2].copy_from_slice(&half.to_le_bytes());
    half.to_f32()
}

/// 32 codes as nibbles in 16 bytes: the first half low, the second half high.
fn put_nibbles(out: &mut [u8], codes: &[u8]) {
    for (e, byte) in out.iter_mut().enumerate().take(16) {
        *byte = (codes[e] & 15) | (codes[e + 16] & 15) << 4;
    }
}

/// The lower two bits of 256 codes in 64 bytes.
fn put_two_bits(out: &mut [u8], codes: &[u8]) {
    for (e, &code) in codes.iter().enumerate() {
        out[32 * (e >> 7) + (e & 31)] |= (code & 3) << (2 * ((e >> 5) & 3));
    }
}

/// The lower four bits of 256 codes in 128 bytes.
fn put_nibbles_of_64(out: &mut [u8], codes: &[u8]) {
    for (e, &code) in codes.iter().enumerate() {
        out[32 * (e >> 6) + (e & 31)] |= (code & 15) << if e & 63 < 32 { 0 } else { 4 };
    }
}
