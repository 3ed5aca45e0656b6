//! Every way of decoding a tile gives the bits of the scalar one, whatever bytes the tile holds.

#[allow(dead_code)]
mod support;

use filigree_kernels::quantization::format::{TileLayout, WeightType, STEP, TILE_ROWS};
use filigree_kernels::quantization::panel::decode;
use filigree_kernels::{Call, Cpu, DType, SerialPool, TensorMut, TensorRef};
use support::{Random, TYPES};

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

fn noise(bytes: usize, random: &mut Random) -> Vec<u8> {
    (0..bytes).map(|_| random.next() as u8).collect()
}

#[test]
fn every_path_decodes_the_same_floats() {
    let mut random = Random(7);
    for (id, elements, _) in TYPES {
        let kind = WeightType::from_id(id).unwrap();
        if kind.is_float() {
            continue;
        }
        for _ in 0..20 {
            let layout = TileLayout::new(kind, 2 * elements).unwrap();
            let tile = noise(layout.bytes, &mut random);
            let decoded = |cpu: Cpu| {
                let mut out = vec![0f32; layout.k * TILE_ROWS];
                // The first step apart, so that a range of steps starts in the middle.
                let (first, rest) = out.split_at_mut(STEP * TILE_ROWS);
                decode(cpu, &layout, &tile, 0..1, first);
                decode(cpu, &layout, &tile, 1..layout.steps, rest);
                out
            };
            let expected = decoded(Cpu::Scalar);
            for cpu in Cpu::available() {
                for (index, (a, b)) in decoded(cpu).into_iter().zip(&expected).enumerate() {
                    let (input, row) = (index / TILE_ROWS, index % TILE_ROWS);
                    assert!(
                        same(a, *b),
                        "{kind:?} on {}: input {input} of row {row} is {a}, not {b}",
                        cpu.name()
                    );
                }
            }
        }
    }
}

/// Products of unquantised inputs with tiles of 16 whole rows.
fn product(cpu: Cpu, id: usize, (tokens, n, k): (usize, usize, usize), x: &[f32], weights: &[u8]) -> Vec<f32> {
    let op = filigree_kernels::all_ops()
        .into_iter()
        .find(|op| op.name == "quantization_matmul")
        .unwrap();
    let mut y = vec![0f32; tokens * n];
    let tensor = |dtype, shape, bytes| Some(TensorRef { dtype, shape, bytes });
    op.invoke(&mut Call {
        inputs: &[
            tensor(DType::F32, &[tokens, k], bytemuck::cast_slice(x)),
            tensor(DType::U8, &[weights.len()], weights),
            None,
            None,
        ],
        outputs: &mut [TensorMut {
            dtype: DType::F32,
            shape: &[tokens, n],
            bytes: bytemuck::cast_slice_mut(&mut y),
        }],
        attrs: &[id as f64, n as f64, k as f64, 1.0, 0.0],
        pool: &SerialPool,
        cpu,
    })
    .unwrap();
    y
}

#[test]
fn every_path_and_number_of_tokens_gives_the_same_sums() {
    let mut random = Random(11);
    for (id, elements, _) in TYPES {
        let kind = WeightType::from_id(id).unwrap();
        let k = elements * if elements == 1 { 77 } else { 2 };
        // Three tiles and a part of one; blocks of all sizes.
        let (n, tokens) = (3 * TILE_ROWS + 5, 47);
        let layout = TileLayout::new(kind, k).unwrap();
        let mut weights = noise(layout.packed_bytes(n).unwrap(), &mut random);
        // Neither infinities nor NaN, which would hide the order of the sums.
        weights.iter_mut().for_each(|byte| *byte &= 0xBB);
        let x: Vec<f32> = (0..tokens * k).map(|_| random.float()).collect();
        let expected = product(Cpu::Scalar, id, (tokens, n, k), &x, &weights);
        for cpu in Cpu::available() {
            for count in [1, 2, 15, tokens] {
                let y = product(cpu, id, (count, n, k), &x[..count * k], &weights);
                for (index, (a, b)) in y.into_iter().zip(&expected).enumerate() {
                    let (token, row) = (index / n, index % n);
                    assert!(
                        same(a, *b),
                        "{kind:?} on {}: row {row} of token {token} of {count} is {a}, not {b}",
                        cpu.name()
                    );
                }
            }
        }
    }
}
