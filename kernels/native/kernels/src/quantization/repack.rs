//! quantization_repack — file rows → the r16 execution layout. Contract: packages/quantization/src/ops/repack.ts.
//!
//! blocks u8 [N, rowBytes] → packed u8 [ceil(N/16), tileBytes]. One tile holds 16 rows × K inputs as
//! `[super scales][scales][codes]` ([`TileLayout`]); row r is lane r everywhere:
//!
//! ```text
//! scales  step s (32 inputs):  d[16] f16                 Q4_0 Q5_0 Q8_0
//!                              d[16] f16, m[16] f16      Q4_1 Q5_1
//!                              sc[16] u8, mn[16] u8      Q4_K Q5_K (super: d[16] f16, dmin[16] f16 per 256 inputs)
//!                              sc0[16] i8, sc1[16] i8    Q6_K (super: d[16] f16 per 256 inputs; two groups of 16)
//! codes   step s: vector c (0…7) has 64 bytes: row r, inputs 4c … 4c+3 at bytes 4r … 4r+3
//!   nibble plane 4 × 64 B: byte of plane j = vector j in the low, vector j+4 in the high nibble
//!   five bits: + 8 × u64: bit b of word c is the fifth bit of byte b of vector c
//!   Q6_K: + 2 × 64 B: byte of plane i holds the upper two bits of vectors 4i … 4i+3 from low to high
//!   Q8_0: 8 × 64 B, code + 128
//! floats  input k: 16 values of the type
//! ```
//! Moves N·rowBytes bytes in and out once; done once per weight, in parallel over tiles.

use super::format::{Codes, Scales, TileLayout, WeightType, STEP, TILE_ROWS};
use super::rows::{q4k_scales, step_codes};
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
    let (elements, bytes) = kind.block();
    let block = &row[step * STEP / elements * bytes..][..bytes];
    let at = layout.scales + step * kind.scale_bytes();
    let mut put = |at: usize, field: &[u8]| packed[at + 2 * lane..at + 2 * lane + 2].copy_from_slice(field);
    match kind.scales() {
        Scales::Half => put(at, &block[..2]),
        Scales::HalfPair => {
            put(at, &block[..2]);
            put(at + 32, &block[2..4]);
        }
        Scales::SuperPair => {
            let super_at = step / 8 * 64;
            put(super_at, &block[..2]);
            put(super_at + 32, &block[2..4]);
            let (scale, minimum) = q4k_scales(&block[4..16], step % 8);
            packed[at + lane] = scale;
            packed[at + 16 + lane] = minimum;
        }
        Scales::SuperSigned => {
            put(step / 8 * 32, &block[208..210]);
            packed[at + lane] = block[192 + 2 * (step % 8)];
            packed[at + 16 + lane] = block[192 + 2 * (step % 8) + 1];
        }
        Scales::None => {}
    }
}

fn pack_codes(layout: &TileLayout, codes: &[u8; STEP], step: usize, lane: usize, packed: &mut [u8]) {
    let at = layout.codes + step * layout.kind.code_bytes();
    let out = &mut packed[at..at + layout.kind.code_bytes()];
    for (input, &code) in codes.iter().enumerate() {
        let (vector, byte) = (input / 4, 4 * lane + input % 4);
        if layout.kind.codes() == Codes::Eight {
            out[64 * vector + byte] = code;
            continue;
        }
        out[64 * (vector & 3) + byte] |= (code & 15) << (4 * (vector >> 2));
        match layout.kind.codes() {
            Codes::Five => out[256 + 8 * vector + byte / 8] |= (code >> 4) << (byte % 8),
            Codes::Six => out[256 + 64 * (vector >> 2) + byte] |= (code >> 4) << (2 * (vector & 3)),
            _ => {}
        }
    }
}
