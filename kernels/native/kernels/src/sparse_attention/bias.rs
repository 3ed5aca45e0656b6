//! What is added to the scores of keys, key by key: behind the softcap, the same for every query. −∞ hides its key.

use super::chunk::Bits;
use super::list::TILE;
use crate::simd::Simd;

/// Biases of the keys of a tile.
pub struct TileBias {
    /// Of every key, in units of log 2.
    pub values: [f32; TILE],
    /// The keys that nobody sees.
    pub hidden: u64,
}

impl TileBias {
    pub fn of(biases: impl Iterator<Item = f32>) -> Self {
        let mut tile = Self {
            values: [0.0; TILE],
            hidden: 0,
        };
        for (key, bias) in biases.enumerate() {
            if bias == f32::NEG_INFINITY {
                tile.hidden |= 1 << key;
            } else {
                tile.values[key] = bias * std::f32::consts::LOG2_E;
            }
        }
        tile
    }

    /// Adds to the scores of lanes, [keys][NV · LANES], and takes hidden keys from all of them; returns whether there is one.
    ///
    /// # Safety
    /// As for [`Simd`]; `scores` has `count` rows.
    #[inline(always)]
    pub unsafe fn add_to_lanes<S: Simd, const NV: usize>(&self, scores: &mut [f32], count: usize, bits: &mut Bits<NV>) -> bool {
        for key in 0..count {
            // SAFETY: NV vectors of row `key`, which is below `count`.
            unsafe {
                let bias = S::splat(self.values[key]);
                for vector in 0..NV {
                    let at = scores.as_mut_ptr().add((key * NV + vector) * S::LANES);
                    S::store(at, S::add(S::load(at), bias));
                }
            }
            if self.hidden >> key & 1 == 1 {
                bits[key] = [0; NV];
            }
        }
        self.hidden != 0
    }

    /// Adds to the scores of rows of TILE.
    pub fn add_to_rows(&self, scores: &mut [f32], count: usize) {
        for row in scores.chunks_exact_mut(TILE) {
            for (score, bias) in row[..count].iter_mut().zip(&self.values) {
                *score += bias;
            }
        }
    }
}
