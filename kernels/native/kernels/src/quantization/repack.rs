//! quantization_repack — file rows → the r16 execution layout. Contract: packages/quantization/src/ops/repack.ts.
//!
//! blocks u8 [N, rowBytes] → packed u8 [ceil(N/16), tileBytes]. One tile holds 16 rows × K inputs as
//! `[super scales][scales][codes]` ([`TileLayout`]); row r is lane r everywhere:
//!
//! ```text
//! scales  step s (32 inputs):  d[16] f16                       Q4_0 Q5_0 Q8_0 IQ4_NL
//!                              d[16] f16, m[16] f16            Q4_1 Q5_1; of the two halves: NVFP4
//!                              e[16] u8                        MXFP4
//!                              sc[16] u8, mn[16] u8            Q4_K Q5_K
//!                              (sc + 16 mn)[16] u8 per half    Q2_K
//!                              sc[16] i8                       IQ4_XS
//!                              sc[16] i8 per half              Q3_K Q6_K
//! super   per 256 inputs:      d[16] f16, dmin[16] f16         Q2_K Q4_K Q5_K
//!                              d[16] f16                       Q3_K Q6_K IQ4_XS TQ1_0 TQ2_0; per 128: Q1_0; per 64: Q2_0
//!         per group:           d[16] f32, m[16] f32            INT2 INT3 INT4 INT8; without m: NF4 FP4 E4M3 E5M2
//! codes   step s: vector c (0…7) has 64 bytes: row r, inputs 4c … 4c+3 at bytes 4r … 4r+3
//!   nibbles: 4 × 64 B, byte of plane j = vector j in the low, vector j+4 in the high nibble
//!   pairs of bits: 2 × 64 B, byte of plane i holds vectors 4i … 4i+3 from low to high
//!   bits: 8 × u64, bit b of word c belongs to byte b of vector c
//!   one bit: bits   two: pairs   three: pairs, bits   four: nibbles   five: nibbles, bits   six: nibbles, pairs   eight: 8 × 64 B, code + 128
//! floats  input k: 16 values of the type
//! ```
//! Moves N·rowBytes bytes in and out once; done once per weight, in parallel over tiles.

use super::format::{Codes, Scales, TileLayout, WeightType, STEP, TILE_ROWS};
use super::rows::{step_codes, step_fields, StepScales};
use crate::call::Call;
use crate::pool::Disjoint;
use crate::{ensure, KernelError};

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let kind = WeightType::from_id(call.attr_usize(0)?)?;
    let k = call.attr_usize(1)?;
    let layout = TileLayout::new(kind, k)?;
    let blocks = call.input(0)?;
    ensure!(blocks.shape.len() == 2, "repack: blocks must have two axes");
    let n = blocks.shape[0];
    let row_bytes = kind.row_bytes(k)?;
    ensure!(
        blocks.shape[1] == row_bytes,
        "repack: rows have {} bytes, {k} inputs of {kind:?} take {row_bytes}",
        blocks.shape[1]
    );
    let source = blocks.elements::<u8>()?;
    let pool = call.pool;
    let out = call.output(0)?.elements::<u8>()?;
    ensure!(
        out.len() == layout.packed_bytes(n)?,
        "repack: packed has {} bytes, needs {}",
        out.len(),
        layout.packed_bytes(n)?
    );
    let tiles = n.div_ceil(TILE_ROWS);
    if layout.bytes == 0 {
        return Ok(());
    }
    let parts = Disjoint::new(out);
    pool.run(tiles, &|tile| {
        // SAFETY: each job writes its own tile; the output outlives the call.
        let packed = unsafe { parts.part(tile * layout.bytes, layout.bytes) };
        packed.fill(0);
        let first = tile * TILE_ROWS;
        let count = TILE_ROWS.min(n - first);
        pack_tile(
            &layout,
            &source[first * row_bytes..(first + count) * row_bytes],
            row_bytes,
            packed,
        );
    });
    Ok(())
}

/// Packs up to 16 file rows into one zeroed tile.
pub fn pack_tile(layout: &TileLayout, rows: &[u8], row_bytes: usize, packed: &mut [u8]) {
    for (lane, row) in rows.chunks_exact(row_bytes.max(1)).enumerate() {
        if layout.kind.is_float() {
            let size = layout.kind.block().1;
            for (k, value) in row.chunks_exact(size).enumerate() {
                let at = (k * TILE_ROWS + lane) * size;
                packed[at..at + size].copy_from_slice(value);
            }
            continue;
        }
        for step in 0..layout.steps {
            pack_scales(layout, row, step, lane, packed);
            pack_codes(layout, &step_codes(layout.kind, row, step), step, lane, packed);
        }
    }
    if layout.kind.codes() == Codes::Eight {
        // Padding rows must decode to level 0 as well.
        for lane in rows.len() / row_bytes.max(1)..TILE_ROWS {
            for step in 0..layout.steps {
                pack_codes(layout, &[128; STEP], step, lane, packed);
            }
        }
    }
}

fn pack_scales(layout: &TileLayout, row: &[u8], step: usize, lane: usize, packed: &mut [u8]) {
    let kind = layout.kind;
    let StepScales { halves, floats, small } = step_fields(kind, row, step);
    let at = layout.scales + step * kind.scale_bytes();
    let super_at = layout.super_at(step);
    let mut put = |at: usize, bits: u16| packed[at + 2 * lane..at + 2 * lane + 2].copy_from_slice(&bits.to_le_bytes());
    match kind.scales() {
        Scales::None => {}
        Scales::Half => put(at, halves[0]),
        Scales::HalfPair | Scales::HalfTwice => {
            put(at, halves[0]);
            put(at + 32, halves[1]);
        }
        Scales::Shared => put(super_at, halves[0]),
        Scales::FloatPair | Scales::FloatOne => {
            let count = if kind.has_offset() { 2 } else { 1 };
            for (part, value) in floats.into_iter().take(count).enumerate() {
                let at = super_at + 64 * part + 4 * lane;
                packed[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
        Scales::Exponent => packed[at + lane] = small[0][0],
        Scales::SuperPair => {
            put(super_at, halves[0]);
            put(super_at + 32, halves[1]);
            packed[at + lane] = small[0][0];
            packed[at + 16 + lane] = small[0][1];
        }
        Scales::SuperPairTwice => {
            put(super_at, halves[0]);
            put(super_at + 32, halves[1]);
            for (half, [scale, minimum]) in small.into_iter().enumerate() {
                packed[at + 16 * half + lane] = scale | minimum << 4;
            }
        }
        Scales::SuperSigned => {
            put(super_at, halves[0]);
            packed[at + lane] = small[0][0];
        }
        Scales::SuperSignedTwice => {
            put(super_at, halves[0]);
            packed[at + lane] = small[0][0];
            packed[at + 16 + lane] = small[1][0];
        }
    }
}

fn pack_codes(layout: &TileLayout, codes: &[u8; STEP], step: usize, lane: usize, packed: &mut [u8]) {
    let at = layout.codes + step * layout.kind.code_bytes();
    let out = &mut packed[at..at + layout.kind.code_bytes()];
    for (input, &code) in codes.iter().enumerate() {
        let (vector, byte) = (input / 4, 4 * lane + input % 4);
        let nibble = (64 * (vector & 3) + byte, (code & 15) << (4 * (vector >> 2)));
        let pair = 64 * (vector >> 2) + byte;
        let pair_at = 2 * (vector & 3);
        let bit = 8 * vector + byte / 8;
        match layout.kind.codes() {
            Codes::Float => {}
            Codes::Eight | Codes::FloatBytes => out[64 * vector + byte] = code,
            Codes::One => out[bit] |= code << (byte % 8),
            Codes::Two => out[pair] |= code << pair_at,
            Codes::Three => {
                out[pair] |= (code & 3) << pair_at;
                out[128 + bit] |= (code >> 2) << (byte % 8);
            }
            Codes::Four | Codes::Nonlinear | Codes::Fp4 | Codes::FloatNibbles => out[nibble.0] |= nibble.1,
            Codes::Five => {
                out[nibble.0] |= nibble.1;
                out[256 + bit] |= (code >> 4) << (byte % 8);
            }
            Codes::Six => {
                out[nibble.0] |= nibble.1;
                out[256 + pair] |= (code >> 4) << pair_at;
            }
        }
    }
}
