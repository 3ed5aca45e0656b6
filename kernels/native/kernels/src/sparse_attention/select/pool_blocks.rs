//! sparse_attention_pool_blocks — one row for every window of rows. Contract: packages/sparse-attention/src/select/pool-blocks.ts.
//! Reads every row once per window that has it; 64 rows are added in f32, the sums of those in f64.

use super::args::{axes, lengths, Lengths};
use crate::call::{Call, DType};
use crate::pool::Disjoint;
use crate::{ensure, KernelError};
use half::slice::HalfFloatSliceExt;

const MEAN: usize = 0;
const MAX: usize = 1;
const MIN: usize = 2;
const ABSMAX: usize = 3;
const LAST: usize = 4;
const DIRECTION: usize = 5;
/// Layouts of x.
const PAGES: usize = 0;
const BLHD: usize = 2;

/// Rows added up in f32.
const RUN: usize = 64;

#[derive(Clone, Copy)]
enum Rows<'a> {
    Floats(&'a [f32]),
    Halves(&'a [half::f16]),
}

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let op = "pool-blocks";
    let x = call.input(0)?;
    let shape: [usize; 4] = axes(op, "x", &x)?;
    let (block, stride) = (super::args::block(call, 0)?, call.attr_usize(1)?);
    let (mode, layout) = (call.attr_usize(2)?, call.attr_usize(3)?);
    ensure!(
        mode <= DIRECTION && layout <= BLHD,
        "{op}: mode or layout is not one of the list"
    );
    let stride = if stride == 0 { block } else { stride };
    let table = call
        .optional(1)
        .map(|table| Ok((axes::<2>(op, "table", &table)?, table.i32s()?)))
        .transpose()?;
    ensure!(table.is_none() || layout == PAGES, "{op}: table is given, but x has no pages");
    let dim = shape[3];
    let (batch, heads, capacity) = match table {
        Some(([batch, pages], _)) => (batch, shape[1], pages * shape[2]),
        None if layout == BLHD => (shape[0], shape[2], shape[1]),
        None => (shape[0], shape[1], shape[2]),
    };
    if let Some((_, table)) = table {
        ensure!(
            table.iter().all(|&page| (page as u32 as usize) < shape[0]),
            "{op}: the page table names a page beyond {}",
            shape[0]
        );
    }
    let all = Lengths {
        queries: if layout == PAGES { usize::MAX } else { capacity },
        keys: if layout == PAGES { capacity } else { usize::MAX },
    };
    let lengths = lengths(op, call.optional(2), batch, all)?;
    let center = call.optional(3).map(|center| center.f32s()).transpose()?;
    ensure!(
        center.is_none_or(|center| center.len() == batch * heads * dim),
        "{op}: center does not fit"
    );
    let rows = match x.dtype {
        DType::F32 => Rows::Floats(x.f32s()?),
        _ => Rows::Halves(x.elements()?),
    };
    let windows = capacity.div_ceil(stride);
    let pool = call.pool;
    let y = call.output(0)?.f32s()?;
    ensure!(y.len() == batch * heads * windows * dim, "{op}: y does not fit");
    if y.is_empty() {
        return Ok(());
    }
    let row_of = |element: usize, head: usize, item: usize| {
        if layout == BLHD {
            return (element * capacity + item) * heads + head;
        }
        match table {
            Some(([_, pages], table)) => {
                let page = table[element * pages + item / shape[2]] as usize;
                (page * heads + head) * shape[2] + item % shape[2]
            }
            None => (element * heads + head) * shape[2] + item,
        }
    };
    let total = batch * heads * windows;
    let step = ((1 << 15) / (dim * block.min(capacity)).max(1)).clamp(1, total);
    let y = Disjoint::new(y);
    pool.run(total.div_ceil(step), &|job| {
        let mut pooling = Pooling::new(mode, dim);
        for index in job * step..total.min((job + 1) * step) {
            let (column, window) = (index / windows, index % windows);
            let (element, head) = (column / heads, column % heads);
            let own = if layout == PAGES {
                lengths[element].keys
            } else {
                lengths[element].queries
            };
            // Without lengths the other side has no end.
            let end = (window * stride + block).min(own).min(capacity);
            // SAFETY: windows have rows of their own.
            let out = unsafe { y.part(index * dim, dim) };
            let center = center.map(|center| &center[column * dim..(column + 1) * dim]);
            let items = (window * stride).min(end)..end;
            pooling.window(items.map(|item| row_of(element, head, item) * dim), rows, center, out);
        }
    });
    Ok(())
}

/// Buffers of one job.
struct Pooling {
    mode: usize,
    row: Vec<f32>,
    sums: Vec<f32>,
    totals: Vec<f64>,
}

impl Pooling {
    fn new(mode: usize, dim: usize) -> Self {
        Self {
            mode,
            row: vec![0.0; dim],
            sums: vec![0.0; dim],
            totals: vec![0.0; dim],
        }
    }

    /// Pools the rows that start at the given elements.
    fn window(&mut self, starts: impl Iterator<Item = usize>, rows: Rows, center: Option<&[f32]>, out: &mut [f32]) {
        let dim = out.len();
        out.fill(match self.mode {
            MAX => f32::NEG_INFINITY,
            MIN => f32::INFINITY,
            _ => 0.0,
        });
        self.sums.fill(0.0);
        self.totals.fill(0.0);
        let mut count = 0;
        for at in starts {
            match rows {
                Rows::Floats(rows) => self.row.copy_from_slice(&rows[at..at + dim]),
                Rows::Halves(rows) => rows[at..at + dim].convert_to_f32_slice(&mut self.row),
            }
            if let Some(center) = center {
                self.row.iter_mut().zip(center).for_each(|(value, center)| *value -= center);
            }
            self.add(out);
            count += 1;
            if count % RUN == 0 {
                self.carry();
            }
        }
        self.carry();
        if count == 0 {
            out.fill(0.0);
        } else if self.mode == MEAN || self.mode == DIRECTION {
            for (out, total) in out.iter_mut().zip(&self.totals) {
                *out = (total / f64::from(count as u32)) as f32;
            }
        }
    }

    fn add(&mut self, out: &mut [f32]) {
        let pairs = out.iter_mut().zip(&self.row);
        match self.mode {
            MAX => pairs.for_each(|(out, &value)| *out = if value > *out { value } else { *out }),
            MIN => pairs.for_each(|(out, &value)| *out = if value < *out { value } else { *out }),
            ABSMAX => pairs.for_each(|(out, &value)| *out = if value.abs() > *out { value.abs() } else { *out }),
            LAST => out.copy_from_slice(&self.row),
            DIRECTION => {
                let norm = square(&self.row).sqrt();
                if norm != 0.0 {
                    self.sums
                        .iter_mut()
                        .zip(&self.row)
                        .for_each(|(sum, value)| *sum += value / norm);
                }
            }
            _ => self.sums.iter_mut().zip(&self.row).for_each(|(sum, value)| *sum += value),
        }
    }

    fn carry(&mut self) {
        for (total, sum) in self.totals.iter_mut().zip(&mut self.sums) {
            *total += f64::from(*sum);
            *sum = 0.0;
        }
    }
}

fn square(row: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    let (vectors, rest) = row.as_chunks::<16>();
    for vector in vectors {
        for (sum, value) in sums.iter_mut().zip(vector) {
            *sum += value * value;
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|value| value * value).sum::<f32>()
}
