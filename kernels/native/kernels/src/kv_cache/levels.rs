//! Levels of the normal distribution that codes are numbers of. The same as packages/kv-cache/src/codecs/turbo-levels.ts, which says why.

use super::layout::Format;

/// The upper half of the Lloyd–Max levels.
const UPPER_2: [f64; 2] = [0.452780035, 1.510417608];
const UPPER_4: [f64; 8] = [
    0.12839503,
    0.388048299,
    0.656759119,
    0.942340456,
    1.256231197,
    1.618046386,
    2.069017227,
    2.732589571,
];

/// Of a format. A number is of the level whose count of thresholds is below it.
#[derive(Debug, Clone, Copy)]
pub struct Levels {
    /// Over again where there are fewer than 16: higher bits of what picks one do not matter.
    pub values: [f32; 16],
    thresholds: [f32; 15],
    count: usize,
}

impl Levels {
    pub fn of(format: Format) -> Option<Self> {
        let upper: &[f64] = match format {
            Format::Turbo4 => &UPPER_4,
            Format::Turbo2 => &UPPER_2,
            _ => return None,
        };
        let half = upper.len();
        let nearest = |code: usize| match code.checked_sub(half) {
            Some(above) => upper[above],
            None => -upper[half - 1 - code],
        };
        let count = 2 * half;
        let mut levels = Self {
            values: std::array::from_fn(|code| nearest(code % count) as f32),
            thresholds: [0.0; 15],
            count: count - 1,
        };
        for (code, threshold) in levels.thresholds[..count - 1].iter_mut().enumerate() {
            *threshold = shortened(((nearest(code + 1) + nearest(code)) / 2.0) as f32);
        }
        Some(levels)
    }

    /// The code of a number of an entry of this scale. The products are exact: twelve bits and eleven.
    pub fn code(&self, value: f32, scale: f32) -> u8 {
        let below = |threshold: &&f32| value > **threshold * scale;
        self.thresholds[..self.count].iter().filter(below).count() as u8
    }
}

/// The leading 12 bits of a number, the square of which is exact.
pub fn shortened(value: f32) -> f32 {
    f32::from_bits(value.to_bits() & 0xffff_f000)
}
