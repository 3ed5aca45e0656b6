//! Inputs of 16 tokens side by side, for kernels that multiply a weight with all of them.
//!
//! Rows of x whose length is a multiple of 4 KiB, as most are, fall into the same few sets of the first cache level: 16 of them push each
//! other out. x [T, K] → [T/16][K][16]; tokens beyond the last whole block stay where they are. Moves 8·T·K bytes once per call.

use crate::pool::{Disjoint, Pool};
use crate::simd::Simd;
use crate::{simd_dispatch, Cpu};
use std::cell::Cell;

/// Tokens of a block.
pub const BLOCK: usize = 16;

pub struct Blocks {
    floats: Vec<f32>,
    k: usize,
}

thread_local! {
    /// Kept between calls of a thread, as a fresh allocation costs page faults.
    static SCRATCH: Cell<Vec<f32>> = Cell::default();
}

impl Blocks {
    pub fn pack(x: &[f32], tokens: usize, k: usize, cpu: Cpu, pool: &dyn Pool) -> Self {
        let blocks = tokens / BLOCK;
        let mut floats = SCRATCH.take();
        floats.resize(blocks * BLOCK * k, 0.0);
        let out = Disjoint::new(&mut floats);
        pool.run(blocks, &|block| {
            let length = BLOCK * k;
            // SAFETY: each job writes its own block.
            let out = unsafe { out.part(block * length, length) };
            pack_block(cpu, &x[block * length..(block + 1) * length], k, out);
        });
        Self { floats, k }
    }

    /// [K][16] of the block that starts at `token`, a multiple of 16.
    pub fn at(&self, token: usize) -> &[f32] {
        &self.floats[token * self.k..(token + BLOCK) * self.k]
    }

    /// Gives the memory back for the next call of this thread.
    pub fn keep(self) {
        SCRATCH.set(self.floats);
    }
}

fn pack_block(cpu: Cpu, x: &[f32], k: usize, out: &mut [f32]) {
    assert!(x.len() == BLOCK * k && out.len() == BLOCK * k);
    simd_dispatch!(cpu, pack_body(x: &[f32], k: usize, out: &mut [f32]));
}

/// # Safety
/// As for [`Simd`]; x and out have 16 · k floats.
#[inline(always)]
unsafe fn pack_body<S: Simd>(x: &[f32], k: usize, out: &mut [f32]) {
    let whole = k - k % S::LANES;
    for token in (0..BLOCK).step_by(S::LANES) {
        for input in (0..whole).step_by(S::LANES) {
            // SAFETY: LANES tokens from `token` and LANES inputs from `input` are there, in x as in `out`.
            unsafe {
                let to = out.as_mut_ptr().add(input * BLOCK + token);
                S::transpose(x.as_ptr().add(token * k + input), k, to, BLOCK);
            }
        }
    }
    for input in whole..k {
        for token in 0..BLOCK {
            out[input * BLOCK + token] = x[token * k + input];
        }
    }
}
