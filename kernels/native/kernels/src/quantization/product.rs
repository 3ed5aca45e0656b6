//! One tile of weights times a block of tokens: what every fused matmul is made of.

use super::activations::Activations;
use super::blocks::{Blocks, BLOCK};
use super::format::{TileLayout, WeightType, TILE_ROWS};
use super::panel;
use super::repack::pack_tile;
use super::tile_scalar;
#[cfg(target_arch = "x86_64")]
use super::tile_x86 as x86;
use crate::call::{Call, TensorRef};
use crate::pool::Pool;
use crate::{ensure, Cpu, KernelError};

/// Sums of NT tokens for the 16 rows of a tile.
pub type Sums<const NT: usize> = [[f32; TILE_ROWS]; NT];

/// x [T, K], quantised where a weight asks for it.
pub struct Input<'a> {
    cpu: Cpu,
    x: &'a [f32],
    pub tokens: usize,
    quantized: Option<Activations>,
    /// x again where a weight takes it as it is and there are enough tokens.
    blocks: Option<Blocks>,
}

/// A weight [N, K] in file rows or tiles.
pub struct Weight<'a> {
    layout: TileLayout,
    bytes: &'a [u8],
    /// Bytes of a file row; 0 when the weights are tiles already.
    row_bytes: usize,
    pub n: usize,
    pub bias: Option<&'a [f32]>,
    /// Which of the input's biases the codes have; none: x is taken as it is.
    meta: Option<usize>,
}

/// How the weights of a call lie and are multiplied.
pub struct Form {
    pub k: usize,
    /// Tiles rather than file rows.
    pub packed: bool,
    /// Inputs are quantised, for weights that have codes.
    pub integer: bool,
}

impl Form {
    /// From three attributes: inputs, layout, activations.
    pub fn read(call: &Call, first: usize) -> Result<Self, KernelError> {
        Ok(Self {
            k: call.attr_usize(first)?,
            packed: call.attr_usize(first + 1)? == 1,
            integer: call.attr_usize(first + 2)? == 1,
        })
    }

    /// Checks a weight's bytes and its bias.
    pub fn weight<'a>(
        &self,
        kind: WeightType,
        n: usize,
        weights: TensorRef<'a>,
        bias: Option<TensorRef<'a>>,
    ) -> Result<Weight<'a>, KernelError> {
        let layout = TileLayout::new(kind, self.k)?;
        let row_bytes = if self.packed { 0 } else { kind.row_bytes(self.k)? };
        let bytes = weights.elements::<u8>()?;
        let expected = if self.packed {
            Some(layout.packed_bytes(n)?)
        } else {
            n.checked_mul(row_bytes)
        };
        ensure!(
            Some(bytes.len()) == expected,
            "matmul: weights have {} bytes, {n} rows of {} take {expected:?}",
            bytes.len(),
            self.k
        );
        let bias = bias.map(|bias| bias.f32s()).transpose()?;
        ensure!(
            bias.is_none_or(|bias| bias.len() == n),
            "matmul: bias does not have {n} elements"
        );
        Ok(Weight {
            layout,
            bytes,
            row_bytes,
            n,
            bias,
            meta: None,
        })
    }

    /// The input of `weights`, quantised once for all of them.
    pub fn input<'a>(
        &self,
        x: TensorRef<'a>,
        weights: &mut [Weight],
        cpu: Cpu,
        pool: &dyn Pool,
    ) -> Result<Input<'a>, KernelError> {
        ensure!(
            x.shape.len() == 2 && x.shape[1] == self.k,
            "matmul: x {:?} does not have rows of {}",
            x.shape,
            self.k
        );
        let tokens = x.shape[0];
        let x = x.f32s()?;
        let mut biases = Vec::with_capacity(weights.len());
        for weight in weights.iter_mut() {
            if self.integer && self.k > 0 && !weight.layout.kind.takes_floats() {
                let bias = weight.layout.kind.sum_factor();
                let index = biases.iter().position(|&other| other == bias).unwrap_or(biases.len());
                if index == biases.len() {
                    biases.push(bias);
                }
                weight.meta = Some(index);
            }
        }
        let quantized =
            (!biases.is_empty() && !x.is_empty()).then(|| Activations::quantize(x, tokens, self.k, &biases, cpu, pool));
        let plain = weights.iter().any(|weight| weight.meta.is_none());
        let blocks = (plain && tokens >= BLOCK && self.k > 0).then(|| Blocks::pack(x, tokens, self.k, cpu, pool));
        Ok(Input {
            cpu,
            x,
            tokens,
            quantized,
            blocks,
        })
    }
}

impl Input<'_> {
    /// Keeps the memory for the next call of this thread.
    pub fn keep(self) {
        if let Some(quantized) = self.quantized {
            quantized.keep();
        }
        if let Some(blocks) = self.blocks {
            blocks.keep();
        }
    }
}

impl Weight<'_> {
    pub fn tiles(&self) -> usize {
        self.n.div_ceil(TILE_ROWS)
    }

    /// Rows of a tile that are there.
    pub fn rows(&self, tile: usize) -> std::ops::Range<usize> {
        tile * TILE_ROWS..((tile + 1) * TILE_ROWS).min(self.n)
    }

    /// The bytes of a tile, packed into `scratch` where the weight lies in file rows.
    pub fn tile<'b>(&'b self, tile: usize, scratch: &'b mut Vec<u8>) -> &'b [u8] {
        let bytes = self.layout.bytes;
        if self.row_bytes == 0 {
            return &self.bytes[tile * bytes..(tile + 1) * bytes];
        }
        let rows = self.rows(tile);
        scratch.clear();
        scratch.resize(bytes, 0);
        pack_tile(
            &self.layout,
            &self.bytes[rows.start * self.row_bytes..rows.end * self.row_bytes],
            self.row_bytes,
            scratch,
        );
        scratch
    }

    /// NT tokens from `token` times the tile, and the bias.
    pub fn product<const NT: usize>(&self, input: &Input, tile: usize, weights: &[u8], token: usize) -> Sums<NT> {
        let mut sums = [[0f32; TILE_ROWS]; NT];
        match (&input.quantized, self.meta) {
            (Some(quantized), Some(meta)) => integer::<NT>(&self.layout, input.cpu, quantized, meta, weights, token, &mut sums),
            _ => {
                let k = self.layout.k;
                let x = match &input.blocks {
                    Some(blocks) if NT == BLOCK => blocks.at(token),
                    _ => &input.x[token * k..(token + NT) * k],
                };
                panel::product::<NT>(&self.layout, input.cpu, weights, x, &mut sums);
            }
        }
        if let Some(bias) = self.bias {
            for row in self.rows(tile) {
                for sums in &mut sums {
                    sums[row % TILE_ROWS] += bias[row];
                }
            }
        }
        sums
    }
}

fn integer<const NT: usize>(
    layout: &TileLayout,
    cpu: Cpu,
    q: &Activations,
    meta: usize,
    weights: &[u8],
    token: usize,
    acc: &mut Sums<NT>,
) {
    let codes = &q.codes[token * layout.k..(token + NT) * layout.k];
    let meta = &q.meta(meta)[token * layout.steps..(token + NT) * layout.steps];
    #[cfg(target_arch = "x86_64")]
    {
        assert!(weights.len() >= layout.bytes);
        let (w, c, m) = (weights.as_ptr(), codes.as_ptr(), meta.as_ptr());
        macro_rules! by_kind {
            ($tile:ident) => {
                // SAFETY: the path was detected; the slices above have exactly the sizes the tile functions ask for.
                unsafe {
                    match layout.kind {
                        WeightType::Q4_0 => x86::$tile::<x86::Q4_0, NT>(layout, w, c, m, acc),
                        WeightType::Q4_1 => x86::$tile::<x86::Q4_1, NT>(layout, w, c, m, acc),
                        WeightType::Q5_0 => x86::$tile::<x86::Q5_0, NT>(layout, w, c, m, acc),
                        WeightType::Q5_1 => x86::$tile::<x86::Q5_1, NT>(layout, w, c, m, acc),
                        WeightType::Q8_0 => x86::$tile::<x86::Q8_0, NT>(layout, w, c, m, acc),
                        WeightType::Q4K => x86::$tile::<x86::Q4K, NT>(layout, w, c, m, acc),
                        WeightType::Q5K => x86::$tile::<x86::Q5K, NT>(layout, w, c, m, acc),
                        WeightType::Q6K => x86::$tile::<x86::Q6K, NT>(layout, w, c, m, acc),
                        WeightType::Q2K => x86::$tile::<x86::Q2K, NT>(layout, w, c, m, acc),
                        WeightType::Q3K => x86::$tile::<x86::Q3K, NT>(layout, w, c, m, acc),
                        WeightType::Iq4Nl => x86::$tile::<x86::Iq4Nl, NT>(layout, w, c, m, acc),
                        WeightType::Iq4Xs => x86::$tile::<x86::Iq4Xs, NT>(layout, w, c, m, acc),
                        WeightType::Mxfp4 => x86::$tile::<x86::Mxfp4, NT>(layout, w, c, m, acc),
                        WeightType::Nvfp4 => x86::$tile::<x86::Nvfp4, NT>(layout, w, c, m, acc),
                        WeightType::Tq1 => x86::$tile::<x86::Tq1, NT>(layout, w, c, m, acc),
                        WeightType::Tq2 => x86::$tile::<x86::Tq2, NT>(layout, w, c, m, acc),
                        WeightType::Q1_0 => x86::$tile::<x86::Q1_0, NT>(layout, w, c, m, acc),
                        WeightType::Q2_0 => x86::$tile::<x86::Q2_0, NT>(layout, w, c, m, acc),
                        WeightType::Int2(_) => x86::$tile::<x86::Int2, NT>(layout, w, c, m, acc),
                        WeightType::Int3(_) => x86::$tile::<x86::Int3, NT>(layout, w, c, m, acc),
                        WeightType::Int4(_) => x86::$tile::<x86::Int4, NT>(layout, w, c, m, acc),
                        WeightType::Int8(_) => x86::$tile::<x86::Int8, NT>(layout, w, c, m, acc),
                        WeightType::F32
                        | WeightType::F16
                        | WeightType::BF16
                        | WeightType::Nf4(_)
                        | WeightType::Bnb4(_)
                        | WeightType::E4m3(_)
                        | WeightType::E5m2(_) => {
                            unreachable!("levels that are floats take the panel path")
                        }
                    }
                }
            };
        }
        match cpu {
            Cpu::Avx512 => return by_kind!(tile512),
            Cpu::Avx2 => return by_kind!(tile256),
            _ => {}
        }
    }
    #[cfg(target_arch = "aarch64")]
    if cpu == Cpu::Neon {
        return super::tile_neon::tile::<NT>(layout, weights, codes, meta, acc);
    }
    tile_scalar::tile::<NT>(layout, weights, codes, meta, acc);
}
