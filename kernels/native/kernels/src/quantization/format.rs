//! GGUF types: sizes in the file, and what the execution layout keeps of them.

use crate::{ensure, KernelError};

/// Rows of one execution tile; they are the SIMD lanes of the kernels.
pub const TILE_ROWS: usize = 16;
/// Inputs that are quantised together, and the step of the inner loops.
pub const STEP: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// How a type's codes lie in a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codes {
    Float,
    /// A plane of nibbles.
    Four,
    /// Nibbles, and a plane of fifth bits.
    Five,
    /// Nibbles, and planes of the upper two bits.
    Six,
    /// Bytes, 128 above the signed code.
    Eight,
}

/// How a type scales its levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scales {
    None,
    /// f16 per 32 inputs.
    Half,
    /// f16 scale and f16 offset per 32 inputs.
    HalfPair,
    /// Six-bit scale and minimum per 32 inputs, times two f16 per 256.
    SuperPair,
    /// Signed scale per 16 inputs, times an f16 per 256.
    SuperSigned,
}

impl WeightType {
    /// By GGUF type id.
    pub fn from_id(id: usize) -> Result<Self, KernelError> {
        Ok(match id {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::BF16,
            _ => return Err(KernelError(format!("weights of GGUF type {id} have no native kernel"))),
        })
    }

    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    /// Elements and bytes of one block in the file.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
        }
    }

    /// Bytes of one row of `k` elements in the file.
    pub fn row_bytes(self, k: usize) -> Result<usize, KernelError> {
        let (elements, bytes) = self.block();
        ensure!(
            k.is_multiple_of(elements),
            "rows of {k} elements are not whole blocks of {elements} ({self:?})"
        );
        (k / elements)
            .checked_mul(bytes)
            .ok_or_else(|| KernelError(format!("rows of {k} elements are too long")))
    }

    pub const fn codes(self) -> Codes {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => Codes::Float,
            Self::Q4_0 | Self::Q4_1 | Self::Q4K => Codes::Four,
            Self::Q5_0 | Self::Q5_1 | Self::Q5K => Codes::Five,
            Self::Q6K => Codes::Six,
            Self::Q8_0 => Codes::Eight,
        }
    }

    pub const fn scales(self) -> Scales {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => Scales::None,
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 => Scales::Half,
            Self::Q4_1 | Self::Q5_1 => Scales::HalfPair,
            Self::Q4K | Self::Q5K => Scales::SuperPair,
            Self::Q6K => Scales::SuperSigned,
        }
    }

    /// Whether weights are scale · level + offset.
    pub const fn has_offset(self) -> bool {
        matches!(self.scales(), Scales::HalfPair | Scales::SuperPair)
    }

    /// Bytes of codes for 16 rows × 32 inputs.
    pub const fn code_bytes(self) -> usize {
        match self.codes() {
            Codes::Four => 256,
            Codes::Five => 320,
            Codes::Six => 384,
            Codes::Eight => 512,
            Codes::Float => match self {
                Self::F32 => 2048,
                _ => 1024,
            },
        }
    }

    /// Bytes of scales for 16 rows × 32 inputs: f16 per row, or small integers of a super-block.
    pub const fn scale_bytes(self) -> usize {
        match self.scales() {
            Scales::None => 0,
            Scales::HalfPair => 64,
            Scales::Half | Scales::SuperPair | Scales::SuperSigned => 32,
        }
    }

    /// Bytes of f16 super scales for 16 rows × 256 inputs.
    pub const fn super_bytes(self) -> usize {
        match self.scales() {
            Scales::SuperPair => 64,
            Scales::SuperSigned => 32,
            _ => 0,
        }
    }

    /// Added to every code to get its level.
    pub fn bias(self) -> i32 {
        match self {
            Self::Q4_0 => -8,
            Self::Q5_0 => -16,
            Self::Q6K => -32,
            // Stored as unsigned bytes, 128 above the signed code.
            Self::Q8_0 => -128,
            _ => 0,
        }
    }
}

/// Byte offsets inside one tile of 16 rows × k inputs: `[super scales][scales][codes]`, each part starting at a multiple of 64.
#[derive(Debug, Clone, Copy)]
pub struct TileLayout {
    pub kind: WeightType,
    pub k: usize,
    /// 32-input steps, or inputs for float types.
    pub steps: usize,
    pub scales: usize,
    pub codes: usize,
    pub bytes: usize,
}

impl TileLayout {
    pub fn new(kind: WeightType, k: usize) -> Result<Self, KernelError> {
        kind.row_bytes(k)?;
        ensure!(k <= 1 << 24, "rows of {k} inputs are longer than 2^24");
        let up = |bytes: usize| bytes.div_ceil(64) * 64;
        if kind.is_float() {
            let element = kind.block().1;
            return Ok(Self {
                kind,
                k,
                steps: k,
                scales: 0,
                codes: 0,
                bytes: up(k * element * TILE_ROWS),
            });
        }
        let steps = k / STEP;
        let scales = up(kind.super_bytes() * k.div_ceil(256));
        let codes = scales + up(kind.scale_bytes() * steps);
        Ok(Self {
            kind,
            k,
            steps,
            scales,
            codes,
            bytes: codes + up(kind.code_bytes() * steps),
        })
    }

    /// Bytes of `n` rows: whole tiles, the last one padded with zero weights.
    pub fn packed_bytes(&self, n: usize) -> Result<usize, KernelError> {
        n.div_ceil(TILE_ROWS)
            .checked_mul(self.bytes)
            .ok_or_else(|| KernelError(format!("{n} rows are too many")))
    }
}
