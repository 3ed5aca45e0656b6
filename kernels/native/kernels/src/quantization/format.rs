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
    Q2K,
    Q3K,
    Iq4Nl,
    Iq4Xs,
    Mxfp4,
    Nvfp4,
    Tq1,
    Tq2,
    Q1_0,
    Q2_0,
    /// Unsigned codes of 2, 3, 4 and (signed, 128 above) 8 bits with an f32 scale and offset per group.
    Int2(Group),
    Int3(Group),
    Int4(Group),
    Int8(Group),
    /// Normal float and the four-bit float of bitsandbytes, levels of a table times an f32 scale per group.
    Nf4(Group),
    Bnb4(Group),
    /// Eight-bit floats, times an f32 scale per group.
    E4m3(Group),
    E5m2(Group),
}

/// Inputs that share a scale, in the types that are not of GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    G32,
    G64,
    G128,
}

impl Group {
    pub const ALL: [Self; 3] = [Self::G32, Self::G64, Self::G128];

    pub const fn size(self) -> usize {
        match self {
            Self::G32 => 32,
            Self::G64 => 64,
            Self::G128 => 128,
        }
    }
}

/// Id of the first type that is not of GGUF; each kind has one per group size.
const FIRST_GROUPED: usize = 256;

/// How a type's codes lie in a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codes {
    Float,
    /// Bits, of which a set one stands for 2.
    One,
    /// Planes of pairs of bits.
    Two,
    /// Pairs of bits, and a plane of third bits.
    Three,
    /// A plane of nibbles.
    Four,
    /// Nibbles, and a plane of fifth bits.
    Five,
    /// Nibbles, and planes of the upper two bits.
    Six,
    /// Bytes, 128 above the signed code.
    Eight,
    /// Nibbles that stand for [`NONLINEAR`], 128 above the signed level.
    Nonlinear,
    /// Nibbles that stand for [`FP4`], 12 above the level.
    Fp4,
    /// Nibbles that stand for floats of a table.
    FloatNibbles,
    /// Bytes that are floats.
    FloatBytes,
}

/// Levels of IQ4_NL and IQ4_XS, 128 above the signed value.
pub const NONLINEAR: [u8; 16] = [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241];
/// E2M1 values, doubled so that they are whole, 12 above: ±0, ±0.5, ±1, ±1.5, ±2, ±3, ±4, ±6.
pub const FP4: [u8; 16] = [12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0];

/// Levels of NF4: quantiles of the normal distribution (Dettmers et al., arXiv:2305.14314), as bitsandbytes rounds them.
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];
/// Levels of the four-bit float of bitsandbytes; code 8 above is the negative.
const BNB4: [f32; 8] = [0.0, 0.005_208_333_5, 0.666_666_7, 1.0, 0.333_333_34, 0.5, 0.166_666_67, 0.25];

/// An E4M3 float: bias 7, no infinities, all bits set is NaN.
fn e4m3(byte: u8) -> f32 {
    let sign = if byte & 0x80 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (byte >> 3 & 15, f32::from(byte & 7));
    sign * match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => fraction * 2f32.powi(-9),
        _ => (1.0 + fraction / 8.0) * 2f32.powi(i32::from(exponent) - 7),
    }
}

/// How a type scales its levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scales {
    None,
    /// f16 per 32 inputs.
    Half,
    /// f16 scale and f16 offset per 32 inputs.
    HalfPair,
    /// f16 per 16 inputs.
    HalfTwice,
    /// f16 per block of 64, 128 or 256 inputs.
    Shared,
    /// f32 scale and f32 offset per group.
    FloatPair,
    /// f32 scale per group.
    FloatOne,
    /// Exponent per 32 inputs: 2^(e − 128).
    Exponent,
    /// Six-bit scale and minimum per 32 inputs, times two f16 per 256.
    SuperPair,
    /// Four-bit scale and minimum per 16 inputs, times two f16 per 256.
    SuperPairTwice,
    /// Signed scale per 32 inputs, times an f16 per 256.
    SuperSigned,
    /// Signed scale per 16 inputs, times an f16 per 256.
    SuperSignedTwice,
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
            10 => Self::Q2K,
            11 => Self::Q3K,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            20 => Self::Iq4Nl,
            23 => Self::Iq4Xs,
            30 => Self::BF16,
            34 => Self::Tq1,
            35 => Self::Tq2,
            39 => Self::Mxfp4,
            40 => Self::Nvfp4,
            41 => Self::Q1_0,
            42 => Self::Q2_0,
            _ => return Self::grouped(id).ok_or_else(|| KernelError(format!("weights of type {id} have no native kernel"))),
        })
    }

    fn grouped(id: usize) -> Option<Self> {
        const KINDS: [fn(Group) -> WeightType; 8] = [
            WeightType::Int2,
            WeightType::Int3,
            WeightType::Int4,
            WeightType::Int8,
            WeightType::Nf4,
            WeightType::Bnb4,
            WeightType::E4m3,
            WeightType::E5m2,
        ];
        let index = id.checked_sub(FIRST_GROUPED)?;
        let groups = Group::ALL.len();
        KINDS.get(index / groups).map(|kind| kind(Group::ALL[index % groups]))
    }

    /// Whether GGUF files hold the type.
    pub const fn of_gguf(self) -> bool {
        !matches!(self.scales(), Scales::FloatPair | Scales::FloatOne)
    }

    /// Whether the inputs are multiplied as they are: the levels are no integers.
    pub const fn takes_floats(self) -> bool {
        matches!(self.codes(), Codes::Float | Codes::FloatNibbles | Codes::FloatBytes)
    }

    /// Whether a tile holds plain values.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    /// Elements and bytes of one block in the file.
    pub const fn block(self) -> (usize, usize) {
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
            Self::Q2K => (256, 84),
            Self::Q3K => (256, 110),
            Self::Iq4Nl => (32, 18),
            Self::Iq4Xs => (256, 136),
            Self::Mxfp4 => (32, 17),
            Self::Nvfp4 => (64, 36),
            Self::Tq1 => (256, 54),
            Self::Tq2 => (256, 66),
            Self::Q1_0 => (128, 18),
            Self::Q2_0 => (64, 18),
            Self::Int2(group) => (group.size(), 8 + group.size() / 4),
            Self::Int3(group) => (group.size(), 8 + group.size() / 32 * 12),
            Self::Int4(group) => (group.size(), 8 + group.size() / 2),
            Self::Int8(group) => (group.size(), 8 + group.size()),
            Self::Nf4(group) | Self::Bnb4(group) => (group.size(), 4 + group.size() / 2),
            Self::E4m3(group) | Self::E5m2(group) => (group.size(), 4 + group.size()),
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
            Self::Q1_0 => Codes::One,
            Self::Q2K | Self::Tq1 | Self::Tq2 | Self::Q2_0 | Self::Int2(_) => Codes::Two,
            Self::Q3K | Self::Int3(_) => Codes::Three,
            Self::Q4_0 | Self::Q4_1 | Self::Q4K | Self::Int4(_) => Codes::Four,
            Self::Q5_0 | Self::Q5_1 | Self::Q5K => Codes::Five,
            Self::Q6K => Codes::Six,
            Self::Q8_0 | Self::Int8(_) => Codes::Eight,
            Self::Iq4Nl | Self::Iq4Xs => Codes::Nonlinear,
            Self::Mxfp4 | Self::Nvfp4 => Codes::Fp4,
            Self::Nf4(_) | Self::Bnb4(_) => Codes::FloatNibbles,
            Self::E4m3(_) | Self::E5m2(_) => Codes::FloatBytes,
        }
    }

    pub const fn scales(self) -> Scales {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => Scales::None,
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 | Self::Iq4Nl => Scales::Half,
            Self::Q4_1 | Self::Q5_1 => Scales::HalfPair,
            Self::Nvfp4 => Scales::HalfTwice,
            Self::Tq1 | Self::Tq2 | Self::Q1_0 | Self::Q2_0 => Scales::Shared,
            Self::Mxfp4 => Scales::Exponent,
            Self::Int2(_) | Self::Int3(_) | Self::Int4(_) | Self::Int8(_) => Scales::FloatPair,
            Self::Nf4(_) | Self::Bnb4(_) | Self::E4m3(_) | Self::E5m2(_) => Scales::FloatOne,
            Self::Q4K | Self::Q5K => Scales::SuperPair,
            Self::Q2K => Scales::SuperPairTwice,
            Self::Iq4Xs => Scales::SuperSigned,
            Self::Q3K | Self::Q6K => Scales::SuperSignedTwice,
        }
    }

    /// Whether weights are scale · level + offset.
    pub const fn has_offset(self) -> bool {
        matches!(
            self.scales(),
            Scales::HalfPair | Scales::FloatPair | Scales::SuperPair | Scales::SuperPairTwice
        )
    }

    /// Whether the two halves of 32 inputs have scales of their own.
    pub const fn scales_halves(self) -> bool {
        matches!(
            self.scales(),
            Scales::HalfTwice | Scales::SuperPairTwice | Scales::SuperSignedTwice
        )
    }

    /// Whether decoded codes are bytes 128 above a signed level, rather than small unsigned numbers.
    pub const fn wide(self) -> bool {
        matches!(self.codes(), Codes::Eight | Codes::Nonlinear)
    }

    /// Bytes of codes for 16 rows × 32 inputs.
    pub const fn code_bytes(self) -> usize {
        match self.codes() {
            Codes::One => 64,
            Codes::Two => 128,
            Codes::Three => 192,
            Codes::Four | Codes::Nonlinear | Codes::Fp4 | Codes::FloatNibbles => 256,
            Codes::Five => 320,
            Codes::Six => 384,
            Codes::Eight | Codes::FloatBytes => 512,
            Codes::Float => match self {
                Self::F32 => 2048,
                _ => 1024,
            },
        }
    }

    /// Bytes of scales for 16 rows × 32 inputs: f16, exponents, or small integers of a super-block.
    pub const fn scale_bytes(self) -> usize {
        match self.scales() {
            Scales::None | Scales::Shared | Scales::FloatPair | Scales::FloatOne => 0,
            Scales::Exponent | Scales::SuperSigned => 16,
            Scales::HalfPair | Scales::HalfTwice => 64,
            Scales::Half | Scales::SuperPair | Scales::SuperPairTwice | Scales::SuperSignedTwice => 32,
        }
    }

    /// Bytes of super scales for 16 rows × [`super_inputs`](Self::super_inputs).
    pub const fn super_bytes(self) -> usize {
        match self.scales() {
            Scales::FloatPair => 128,
            Scales::SuperPair | Scales::SuperPairTwice | Scales::FloatOne => 64,
            Scales::SuperSigned | Scales::SuperSignedTwice | Scales::Shared => 32,
            _ => 0,
        }
    }

    /// Inputs that share a super scale.
    pub const fn super_inputs(self) -> usize {
        match self.scales() {
            Scales::Shared | Scales::FloatPair | Scales::FloatOne => self.block().0,
            _ => 256,
        }
    }

    /// What a stored code stands for: level − [`bias`](Self::bias).
    pub fn decode(self, code: u8) -> u8 {
        match self.codes() {
            Codes::One => 2 * code,
            Codes::Nonlinear => NONLINEAR[usize::from(code & 15)],
            Codes::Fp4 => FP4[usize::from(code & 15)],
            _ => code,
        }
    }

    /// Level of a code of the types whose levels are floats.
    pub fn float_level(self, code: u8) -> f32 {
        match self {
            Self::Nf4(_) => NF4[usize::from(code & 15)],
            Self::Bnb4(_) => {
                let level = BNB4[usize::from(code & 7)];
                if code & 8 == 0 {
                    level
                } else {
                    -level
                }
            }
            Self::E4m3(_) => e4m3(code),
            // The upper byte of a half.
            _ => half::f16::from_bits(u16::from(code) << 8).to_f32(),
        }
    }

    /// Added to every decoded code to get its level.
    pub const fn bias(self) -> i32 {
        match self {
            Self::Q4_0 => -8,
            Self::Q5_0 => -16,
            Self::Q6K => -32,
            Self::Q3K => -4,
            Self::Tq1 | Self::Tq2 | Self::Q2_0 | Self::Q1_0 => -1,
            Self::Mxfp4 | Self::Nvfp4 => -12,
            // Stored as unsigned bytes, 128 above the signed level.
            Self::Q8_0 | Self::Iq4Nl | Self::Iq4Xs | Self::Int8(_) => -128,
            _ => 0,
        }
    }

    /// What the sums of activation codes are multiplied with before a kernel gets them: the bias, or 1 where offsets of the halves need
    /// the sums themselves.
    pub const fn sum_factor(self) -> i32 {
        match self.scales() {
            Scales::SuperPairTwice => 1,
            _ => self.bias(),
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
        let scales = up(kind.super_bytes() * k.div_ceil(kind.super_inputs()));
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

    /// Where the super scales of a step begin.
    pub const fn super_at(&self, step: usize) -> usize {
        step * STEP / self.kind.super_inputs() * self.kind.super_bytes()
    }

    /// Bytes of `n` rows: whole tiles, the last one padded with zero weights.
    pub fn packed_bytes(&self, n: usize) -> Result<usize, KernelError> {
        n.div_ceil(TILE_ROWS)
            .checked_mul(self.bytes)
            .ok_or_else(|| KernelError(format!("{n} rows are too many")))
    }
}
