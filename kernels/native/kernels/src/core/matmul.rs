//! core_matmul — dense f32 and f64 products through the `matrixmultiply` crate. Contract: packages/core-tensor/src/ops/matmul.ts.
//!
//! The crate's kernel and its blocking of K depend on the CPU alone, not on M or N, so a row of y is the same bits alone and in a
//! batch. It runs single-threaded on panels that this kernel cuts. The scalar path is a plain loop.

use crate::call::{Call, DType};
use crate::pool::Disjoint;
use crate::{ensure, Cpu, KernelError, Pool};

/// Rows and columns of y per job.
const PANEL: usize = 64;

#[derive(Clone, Copy)]
struct Product {
    m: usize,
    k: usize,
    n: usize,
    /// Row and column strides.
    a: (usize, usize),
    b: (usize, usize),
}

/// Row-major product `c = a b`; pointers to the first elements, strides in elements.
type Gemm<T> = unsafe fn(usize, usize, usize, T, *const T, isize, isize, *const T, isize, isize, T, *mut T, isize, isize);

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let (transpose_a, transpose_b) = (call.attr_bool(0)?, call.attr_bool(1)?);
    let (a, b) = (call.input(0)?, call.input(1)?);
    ensure!(a.shape.len() >= 2 && b.shape.len() >= 2, "matmul: a and b need two axes");
    let dims = |shape: &[usize], transpose: bool| {
        let (first, second) = (shape[shape.len() - 2], shape[shape.len() - 1]);
        if transpose {
            (second, first, (1, second))
        } else {
            (first, second, (second, 1))
        }
    };
    let (m, k, stride_a) = dims(a.shape, transpose_a);
    let (k_b, n, stride_b) = dims(b.shape, transpose_b);
    ensure!(k == k_b, "matmul: a has {k} columns, b {k_b} rows");
    let product = Product {
        m,
        k,
        n,
        a: stride_a,
        b: stride_b,
    };
    let (pool, cpu) = (call.pool, call.cpu);
    let y = call.output(0)?;
    let batch = y.shape[..y.shape.len().saturating_sub(2)].to_vec();
    let at = |shape: &[usize]| matrices(&shape[..shape.len() - 2], &batch);
    let (at_a, at_b) = (at(a.shape), at(b.shape));
    ensure!(
        y.bytes.len() == at_a.len() * m * n * y.dtype.size(),
        "matmul: y {:?} does not fit",
        y.shape
    );
    if y.dtype == DType::F64 {
        let (a, b) = (a.elements::<f64>()?, b.elements::<f64>()?);
        return multiply(
            pool,
            cpu,
            product,
            a,
            b,
            (&at_a, &at_b),
            y.elements::<f64>()?,
            matrixmultiply::dgemm,
            |x, y, z| x.mul_add(y, z),
        );
    }
    let (a, b) = (a.f32s()?, b.f32s()?);
    multiply(
        pool,
        cpu,
        product,
        a,
        b,
        (&at_a, &at_b),
        y.f32s()?,
        matrixmultiply::sgemm,
        |x, y, z| x.mul_add(y, z),
    )
}

/// Which matrix of an operand each matrix of the batch reads.
fn matrices(own: &[usize], batch: &[usize]) -> Vec<usize> {
    let count = batch.iter().product();
    (0..count)
        .map(|index: usize| {
            let (mut rest, mut at, mut stride) = (index, 0, 1);
            for axis in (0..batch.len()).rev() {
                let position = rest % batch[axis];
                rest /= batch[axis];
                if let Some(own_axis) = (axis + own.len()).checked_sub(batch.len()) {
                    at += if own[own_axis] == 1 { 0 } else { position * stride };
                    stride *= own[own_axis];
                }
            }
            at
        })
        .collect()
}

fn multiply<T: Copy + Default + From<u8> + Send + Sync>(
    pool: &dyn Pool,
    cpu: Cpu,
    p: Product,
    a: &[T],
    b: &[T],
    at: (&[usize], &[usize]),
    y: &mut [T],
    gemm: Gemm<T>,
    fma: impl Fn(T, T, T) -> T + Sync,
) -> Result<(), KernelError> {
    if y.is_empty() {
        return Ok(());
    }
    let Product { m, k, n, .. } = p;
    if k == 0 {
        y.fill(T::default());
        return Ok(());
    }
    let inside = |at: &[usize], elements: usize, length: usize| at.iter().all(|&matrix| (matrix + 1) * elements <= length);
    ensure!(
        inside(at.0, m * k, a.len()) && inside(at.1, k * n, b.len()),
        "matmul: an operand is too short"
    );
    let (rows, columns) = (m.div_ceil(PANEL), n.div_ceil(PANEL));
    let out = Disjoint::new(y);
    pool.run(at.0.len() * rows * columns, &|job| {
        let (batch, panel) = (job / (rows * columns), job % (rows * columns));
        let (row, column) = (panel / columns * PANEL, panel % columns * PANEL);
        let (height, width) = (PANEL.min(m - row), PANEL.min(n - column));
        let from_a = at.0[batch] * m * k + row * p.a.0;
        let from_b = at.1[batch] * k * n + column * p.b.1;
        // SAFETY: each job writes its own panel: `part` yields the rows between the panel's first and last element, of which only the
        // panel's columns are touched, through raw pointers.
        let target = unsafe { out.start_at(batch * m * n + row * n + column) };
        if cpu == Cpu::Scalar {
            for i in 0..height {
                for j in 0..width {
                    let mut sum = T::default();
                    for inner in 0..k {
                        sum = fma(
                            a[from_a + i * p.a.0 + inner * p.a.1],
                            b[from_b + inner * p.b.0 + j * p.b.1],
                            sum,
                        );
                    }
                    // SAFETY: inside this job's panel.
                    unsafe { *target.add(i * n + j) = sum };
                }
            }
            return;
        }
        // SAFETY: the operands were checked above; strides and sizes describe the panel exactly.
        unsafe {
            gemm(
                height,
                k,
                width,
                T::from(1),
                a.as_ptr().add(from_a),
                p.a.0 as isize,
                p.a.1 as isize,
                b.as_ptr().add(from_b),
                p.b.0 as isize,
                p.b.1 as isize,
                T::from(0),
                target,
                n as isize,
                1,
            );
        }
    });
    Ok(())
}
