//! Element-by-element ops. Contracts: packages/core-tensor/src/ops/{unary,binary,gated-activation,softcap,where,cast}.ts.
//! All are memory-bound: 4 to 12 bytes an element.

use crate::call::{Call, DType, TensorMut, TensorRef};
use crate::pool::for_rows;
use crate::simd::{exp, Simd};
use crate::{ensure, simd_dispatch, Cpu, KernelError};
use half::{bf16, f16};

/// Elements a job takes.
const GRAIN: usize = 1 << 15;

const SIGMOID: usize = 9;
const RELU: usize = 10;
const RELU2: usize = 11;
const SILU: usize = 12;
const GELU: usize = 13;

/// One function of the unary list that has no vector form.
fn scalar_unary(kind: usize, x: f32) -> f32 {
    match kind {
        0 => -x,
        1 => x.abs(),
        2 => x.exp(),
        3 => x.ln(),
        4 => x.sqrt(),
        5 => 1.0 / x.sqrt(),
        6 => 1.0 / x,
        7 => x * x,
        8 => x.tanh(),
        RELU => keep_positive(x),
        RELU2 => keep_positive(x) * keep_positive(x),
        _ => 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
    }
}

/// x where it is positive or NaN, else 0.
fn keep_positive(x: f32) -> f32 {
    if x > 0.0 || x.is_nan() {
        x
    } else {
        0.0
    }
}

/// Error function by its complementary Chebyshev fit, in f64 (Press et al., Numerical Recipes §6.2).
fn erf(x: f32) -> f32 {
    let x = f64::from(x);
    let t = 1.0 / (1.0 + 0.5 * x.abs());
    let coefficients = [
        0.17087277,
        -0.82215223,
        1.48851587,
        -1.13520398,
        0.27886807,
        -0.18628806,
        0.09678418,
        0.37409196,
        1.00002368,
    ];
    let polynomial = coefficients.iter().fold(0.0, |sum, c| sum * t + c);
    let complement = t * (-x * x - 1.26551223 + t * polynomial).exp();
    (if x >= 0.0 { 1.0 - complement } else { complement - 1.0 }) as f32
}

/// Vector form of the smooth gates: x · σ(a x + b x³), or σ(x).
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn smooth<S: Simd>(kind: usize, x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let one = S::splat(1.0);
        let argument = if kind == GELU {
            // 0.5 (1 + tanh u) = σ(2 u), u = √(2/π) (x + 0.044715 x³).
            let cubic = S::fma(S::mul(S::mul(x, x), S::splat(0.044_715)), x, x);
            S::mul(cubic, S::splat(2.0 * 0.797_884_6))
        } else {
            x
        };
        let sigmoid = S::div(one, S::add(one, exp::<S>(S::sub(S::splat(0.0), argument))));
        if kind == SIGMOID {
            sigmoid
        } else {
            S::mul(x, sigmoid)
        }
    }
}

/// y = f(x) [· up].
pub(crate) fn activate(cpu: Cpu, kind: usize, x: &[f32], up: Option<&[f32]>, y: &mut [f32]) {
    if matches!(kind, SIGMOID | SILU | GELU) {
        simd_dispatch!(cpu, smooth_rows(kind: usize, x: &[f32], up: Option<&[f32]>, y: &mut [f32]));
        return;
    }
    for (value, &x) in y.iter_mut().zip(x) {
        *value = scalar_unary(kind, x);
    }
    if let Some(up) = up {
        for (value, &up) in y.iter_mut().zip(up) {
            *value *= up;
        }
    }
}

/// # Safety
/// As for [`Simd`]; the slices have one length.
#[inline(always)]
unsafe fn smooth_rows<S: Simd>(kind: usize, x: &[f32], up: Option<&[f32]>, y: &mut [f32]) {
    let whole = y.len() / S::LANES * S::LANES;
    let rest = y.len() - whole;
    // SAFETY: every vector lies within the slices; the tail goes through arrays of at least LANES elements.
    unsafe {
        let mut at = 0;
        while at < whole {
            let up = up.map_or(std::ptr::null(), |up| up.as_ptr().add(at));
            gate::<S>(kind, x.as_ptr().add(at), up, y.as_mut_ptr().add(at));
            at += S::LANES;
        }
        if rest > 0 {
            let mut tail = [[0f32; 16]; 3];
            tail[0][..rest].copy_from_slice(&x[whole..]);
            if let Some(up) = up {
                tail[1][..rest].copy_from_slice(&up[whole..]);
            }
            let [x, other, out] = &mut tail;
            let up = if up.is_some() { other.as_ptr() } else { std::ptr::null() };
            gate::<S>(kind, x.as_ptr(), up, out.as_mut_ptr());
            y[whole..].copy_from_slice(&tail[2][..rest]);
        }
    }
}

/// One vector of [`smooth_rows`]; `up` is null where there is none.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn gate<S: Simd>(kind: usize, x: *const f32, up: *const f32, y: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let value = smooth::<S>(kind, S::load(x));
        let value = if up.is_null() { value } else { S::mul(value, S::load(up)) };
        S::store(y, value);
    }
}

pub fn unary(call: &mut Call) -> Result<(), KernelError> {
    let kind = call.attr_usize(0)?;
    let x = call.input(0)?.f32s()?;
    let (pool, cpu) = (call.pool, call.cpu);
    let y = call.output(0)?.f32s()?;
    ensure!(y.len() == x.len(), "unary: y has {} elements, x {}", y.len(), x.len());
    let length = y.len();
    for_rows(pool, y, length, GRAIN, |first, y| {
        activate(cpu, kind, &x[first..first + y.len()], None, y)
    });
    Ok(())
}

/// The unary function of a gate, by its index in the JavaScript list.
pub(crate) fn gate_kind(kind: usize) -> Result<usize, KernelError> {
    const GATES: [usize; 6] = [SILU, GELU, 14, RELU, RELU2, SIGMOID];
    GATES
        .get(kind)
        .copied()
        .ok_or_else(|| KernelError(format!("gated-activation: kind {kind} is not known")))
}

pub fn gated_activation(call: &mut Call) -> Result<(), KernelError> {
    let kind = call.attr_usize(0)?;
    let kind = gate_kind(kind)?;
    let gate = call.input(0)?.f32s()?;
    let up = call.input(1)?.f32s()?;
    let (pool, cpu) = (call.pool, call.cpu);
    let y = call.output(0)?.f32s()?;
    ensure!(
        y.len() == gate.len() && y.len() == up.len(),
        "gated-activation: gate, up and y differ in length"
    );
    let length = y.len();
    for_rows(pool, y, length, GRAIN, |first, y| {
        let end = first + y.len();
        activate(cpu, kind, &gate[first..end], Some(&up[first..end]), y);
    });
    Ok(())
}

pub fn softcap(call: &mut Call) -> Result<(), KernelError> {
    let cap = call.attr(0)? as f32;
    let x = call.input(0)?.f32s()?;
    let pool = call.pool;
    let y = call.output(0)?.f32s()?;
    ensure!(y.len() == x.len(), "softcap: y has {} elements, x {}", y.len(), x.len());
    let length = y.len();
    for_rows(pool, y, length, GRAIN, |first, y| {
        let end = first + y.len();
        for (value, &x) in y.iter_mut().zip(&x[first..end]) {
            *value = cap * (x / cap).tanh();
        }
    });
    Ok(())
}

pub fn select(call: &mut Call) -> Result<(), KernelError> {
    let condition = call.input(0)?;
    ensure!(condition.dtype == DType::Bool, "where: condition is {:?}", condition.dtype);
    let (a, b) = (call.input(1)?.f32s()?, call.input(2)?.f32s()?);
    let y = call.output(0)?.f32s()?;
    ensure!(
        y.len() == a.len() && y.len() == b.len() && y.len() == condition.bytes.len(),
        "where: lengths differ"
    );
    for (index, value) in y.iter_mut().enumerate() {
        *value = if condition.bytes[index] != 0 { a[index] } else { b[index] };
    }
    Ok(())
}

fn binary_f32(kind: usize, a: f32, b: f32) -> f32 {
    let flag = |condition: bool| if condition { 1.0 } else { 0.0 };
    match kind {
        0 => a + b,
        1 => a - b,
        2 => a * b,
        3 => a / b,
        4 | 5 if a.is_nan() || b.is_nan() => f32::NAN,
        4 => a.max(b),
        5 => a.min(b),
        6 => a.powf(b),
        7 => flag(a == b),
        8 => flag(a != b),
        9 => flag(a < b),
        10 => flag(a <= b),
        11 => flag(a > b),
        _ => flag(a >= b),
    }
}

fn binary_i32(kind: usize, a: i32, b: i32) -> i32 {
    match kind {
        0 => a.wrapping_add(b),
        1 => a.wrapping_sub(b),
        2 => a.wrapping_mul(b),
        3 => a.checked_div(b).unwrap_or(0),
        4 => a.max(b),
        5 => a.min(b),
        7 => i32::from(a == b),
        8 => i32::from(a != b),
        9 => i32::from(a < b),
        10 => i32::from(a <= b),
        11 => i32::from(a > b),
        _ => i32::from(a >= b),
    }
}

pub fn binary(call: &mut Call) -> Result<(), KernelError> {
    let kind = call.attr_usize(0)?;
    let (a, b) = (call.input(0)?, call.input(1)?);
    let pool = call.pool;
    let y = call.output(0)?;
    let shape = y.shape.to_vec();
    if y.dtype == DType::I32 {
        let (left, right) = (a.i32s()?, b.i32s()?);
        return broadcast(pool, &shape, (a.shape, left), (b.shape, right), y.i32s()?, |a, b| {
            binary_i32(kind, a, b)
        });
    }
    let (left, right) = (a.f32s()?, b.f32s()?);
    let y = y.f32s()?;
    if a.shape == b.shape && a.shape == shape && kind < 3 {
        // The residual adds of a decoder: a plain loop that vectorises.
        let length = y.len();
        for_rows(pool, y, length, GRAIN, |first, y| {
            let end = first + y.len();
            let pairs = y.iter_mut().zip(&left[first..end]).zip(&right[first..end]);
            match kind {
                0 => pairs.for_each(|((value, a), b)| *value = a + b),
                1 => pairs.for_each(|((value, a), b)| *value = a - b),
                _ => pairs.for_each(|((value, a), b)| *value = a * b),
            }
        });
        return Ok(());
    }
    broadcast(pool, &shape, (a.shape, left), (b.shape, right), y, |a, b| {
        binary_f32(kind, a, b)
    })
}

fn broadcast<T: Copy + Send + Sync>(
    pool: &dyn crate::Pool,
    shape: &[usize],
    a: (&[usize], &[T]),
    b: (&[usize], &[T]),
    y: &mut [T],
    f: impl Fn(T, T) -> T + Sync,
) -> Result<(), KernelError> {
    let strides = |own: &[usize], length: usize| -> Result<Vec<usize>, KernelError> {
        ensure!(
            own.len() <= shape.len() && own.iter().product::<usize>() == length,
            "binary: {own:?} does not broadcast to {shape:?}"
        );
        let mut out = vec![0; shape.len()];
        let mut stride = 1;
        for axis in (0..own.len()).rev() {
            let at = axis + shape.len() - own.len();
            ensure!(
                own[axis] == 1 || own[axis] == shape[at],
                "binary: {own:?} does not broadcast to {shape:?}"
            );
            out[at] = if own[axis] == 1 { 0 } else { stride };
            stride *= own[axis];
        }
        Ok(out)
    };
    let (stride_a, stride_b) = (strides(a.0, a.1.len())?, strides(b.0, b.1.len())?);
    ensure!(
        y.len() == shape.iter().product::<usize>(),
        "binary: y does not have the elements of {shape:?}"
    );
    let length = y.len();
    for_rows(pool, y, length, GRAIN, |first, y| {
        for (index, value) in y.iter_mut().enumerate() {
            let (mut rest, mut at_a, mut at_b) = (first + index, 0, 0);
            for axis in (0..shape.len()).rev() {
                let position = rest % shape[axis];
                rest /= shape[axis];
                at_a += position * stride_a[axis];
                at_b += position * stride_b[axis];
            }
            *value = f(a.1[at_a], b.1[at_b]);
        }
    });
    Ok(())
}

/// A number of any compute dtype; f64 holds all of them.
fn load(x: &TensorRef, index: usize) -> f64 {
    let at = index * x.dtype.size();
    let two = || [x.bytes[at], x.bytes[at + 1]];
    let four = || [x.bytes[at], x.bytes[at + 1], x.bytes[at + 2], x.bytes[at + 3]];
    match x.dtype {
        DType::F32 => f64::from(f32::from_le_bytes(four())),
        DType::F64 => f64::from_le_bytes(x.bytes[at..at + 8].try_into().unwrap_or_default()),
        DType::F16 => f64::from(f16::from_le_bytes(two()).to_f32()),
        DType::BF16 => f64::from(bf16::from_le_bytes(two()).to_f32()),
        DType::I32 => f64::from(i32::from_le_bytes(four())),
        DType::U32 => f64::from(u32::from_le_bytes(four())),
        DType::I8 => f64::from(x.bytes[at] as i8),
        DType::U8 | DType::Bool => f64::from(x.bytes[at]),
        DType::I64 => f64::NAN,
    }
}

fn store(y: &mut TensorMut, index: usize, value: f64) {
    let size = y.dtype.size();
    let out = &mut y.bytes[index * size..(index + 1) * size];
    match y.dtype {
        DType::F32 => out.copy_from_slice(&(value as f32).to_le_bytes()),
        DType::F64 => out.copy_from_slice(&value.to_le_bytes()),
        DType::F16 => out.copy_from_slice(&f16::from_f64(value).to_le_bytes()),
        // Through f32, as the reference does.
        DType::BF16 => out.copy_from_slice(&bf16::from_f32(value as f32).to_le_bytes()),
        // `as` truncates, saturates and turns NaN into 0.
        DType::I32 => out.copy_from_slice(&(value as i32).to_le_bytes()),
        DType::U32 => out.copy_from_slice(&(value as u32).to_le_bytes()),
        DType::I8 => out[0] = (value as i8) as u8,
        DType::U8 => out[0] = value as u8,
        DType::Bool => out[0] = u8::from(value != 0.0),
        DType::I64 => {}
    }
}

pub fn cast(call: &mut Call) -> Result<(), KernelError> {
    let x = call.input(0)?;
    let y = call.output(0)?;
    ensure!(x.dtype != DType::I64 && y.dtype != DType::I64, "cast: i64 is a storage type");
    let count = x.bytes.len() / x.dtype.size();
    ensure!(
        y.bytes.len() == count * y.dtype.size(),
        "cast: y does not have {count} elements"
    );
    if x.dtype == y.dtype {
        y.bytes.copy_from_slice(x.bytes);
        return Ok(());
    }
    for index in 0..count {
        let value = load(&x, index);
        store(y, index, value);
    }
    Ok(())
}
