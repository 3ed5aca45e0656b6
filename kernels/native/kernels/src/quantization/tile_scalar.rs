//! Integer path without SIMD; the arithmetic that every other path repeats lane by lane.
//!
//! Per step of 32 inputs, one output: idot = Σ level · q exactly in i32, then acc = fma(s, idot·d, acc), then acc = fma(m, d·Σq, acc)
//! for types with an offset. Types with a scale per 16 inputs do either for the first and then for the second half.

use super::activations::GroupMeta;
use super::format::{TileLayout, STEP, TILE_ROWS};
use super::panel::{code_words, tile_scales};

pub fn tile<const NT: usize>(
    layout: &TileLayout,
    tile: &[u8],
    codes: &[i8],
    meta: &[GroupMeta],
    acc: &mut [[f32; TILE_ROWS]; NT],
) {
    let kind = layout.kind;
    for step in 0..layout.steps {
        let at = layout.codes + step * kind.code_bytes();
        let bytes = &tile[at..at + kind.code_bytes()];
        let scales = tile_scales(layout, tile, step);
        // SAFETY: `bytes` has exactly the step's codes.
        let words: [[u32; TILE_ROWS]; 8] = std::array::from_fn(|c| unsafe { code_words(kind, bytes.as_ptr(), c) });
        for t in 0..NT {
            let group = meta[t * layout.steps + step];
            let q = &codes[t * layout.k + step * STEP..][..STEP];
            let start = if kind.bias() == 0 { [0; 2] } else { group.start };
            for r in 0..TILE_ROWS {
                let half = |h: usize| {
                    (0..16).fold(start[h], |sum, e| {
                        let code = (words[4 * h + e / 4][r] >> (8 * (e % 4))) & 255;
                        sum + code as i32 * i32::from(q[16 * h + e])
                    })
                };
                let value = &mut acc[t][r];
                if kind.scales_halves() {
                    *value = scales[0][r].0.mul_add(half(0) as f32 * group.d, *value);
                    *value = scales[1][r].0.mul_add(half(1) as f32 * group.d, *value);
                    if kind.has_offset() {
                        *value = scales[0][r].1.mul_add(group.start[0] as f32 * group.d, *value);
                        *value = scales[1][r].1.mul_add(group.start[1] as f32 * group.d, *value);
                    }
                } else {
                    *value = scales[0][r].0.mul_add((half(0) + half(1)) as f32 * group.d, *value);
                    if kind.has_offset() {
                        *value = scales[0][r].1.mul_add(group.d_sum, *value);
                    }
                }
            }
        }
    }
}
