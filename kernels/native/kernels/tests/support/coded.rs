//! Pages of codes.

use super::{run, Argument, Case, Random};
use filigree_kernels::{Cpu, DType};

/// The first format of pruned pages; the others drop more, tenth by tenth.
const BITMAP: usize = 5;

/// Bytes of a page of a head, by the formula of the layout.
fn bytes_of(format: usize, keys: bool, page: usize, dim: usize) -> usize {
    let (rows, columns) = if keys { (dim, page) } else { (page, dim) };
    let (entries, groups) = (rows, columns.div_ceil(32));
    let rows = rows.next_multiple_of(16);
    if format >= BITMAP {
        let numbers = 2 * page * (dim - dim * (format - BITMAP) / 10);
        return numbers + groups * if keys { 6 * rows } else { 4 * entries };
    }
    let codes = groups * rows * 32 * [8, 4, 2, 4, 2][format] / 8;
    codes
        + if [0, 3, 4].contains(&format) {
            2 * page
        } else {
            4 * groups * rows
        }
}

/// Encoding, decoding and attending, in every format of keys and of values.
pub fn coded(random: &mut Random) -> Vec<Case> {
    let mut cases = vec![];
    let pairs = [(0, 0), (1, 1), (2, 2), (0, 2), (1, 0), (3, 3), (4, 4), (3, 1), (0, 4)];
    let pruned = [(10, 12), (BITMAP, 14), (12, 1)];
    for (k_format, v_format) in pairs.into_iter().chain(pruned) {
        let page = random.pick(&[32, 64, 96]);
        // Rotated heads have powers of two.
        let (dims, value_dims) = ([[1, 16, 40, 64], [1, 16, 32, 64]], [[3, 32, 40, 64], [2, 32, 128, 64]]);
        let dim = random.pick(&dims[usize::from([3, 4].contains(&k_format))]);
        let value_dim = random.pick(&value_dims[usize::from([3, 4].contains(&v_format))]);
        let (pages, kv_heads) = (random.between(1, 3), random.between(1, 2));
        let (batch, queries, group) = (random.between(0, 2), random.pick(&[1, 1, 2, 20]), random.pick(&[1, 2, 3, 5]));
        let heads = kv_heads * group;
        let mut sides = vec![];
        for (side, format, dim) in [(0, k_format, dim), (1, v_format, value_dim)] {
            let ids: Vec<i32> = (0..pages as i32).collect();
            let shape = [pages, kv_heads, page, dim];
            let rows = match random.below(2) {
                0 => Argument::floats(&shape, random),
                _ => Argument::halves(&shape, random),
            };
            let size = bytes_of(format, side == 0, page, dim);
            let encode = Case {
                op: "kv_cache_encode",
                inputs: vec![
                    Some(rows),
                    Some(Argument::integers(&ids, &[pages])),
                    Some(Argument::integers(&ids, &[pages])),
                    None,
                ],
                outputs: vec![Argument::zeros(DType::U8, &[pages, kv_heads, size])],
                attrs: vec![f64::from(side), format as f64],
            };
            let bytes = run(&encode, Cpu::Scalar).expect("encoding works");
            let mut coded = encode.outputs[0].clone();
            coded.data_mut().copy_from_slice(&bytes[0]);
            cases.push(encode);
            cases.push(Case {
                op: "kv_cache_decode",
                inputs: vec![Some(coded.clone()), Some(Argument::integers(&ids, &[pages]))],
                outputs: vec![Argument::zeros(DType::F32, &shape)],
                attrs: vec![f64::from(side), format as f64, page as f64, dim as f64],
            });
            sides.push(Some(coded));
        }
        let width = random.between(1, 4);
        let lengths: Vec<i32> = (0..batch).map(|_| (page * random.between(0, width)) as i32).collect();
        let mut inputs = vec![Some(Argument::floats(&[batch, queries, heads, dim], random))];
        inputs.extend(sides);
        inputs.push(Some(Argument::indices(&[batch, width], pages, random)));
        inputs.push(Some(Argument::integers(&lengths, &[batch])));
        cases.push(Case {
            op: "kv_cache_coded_attention",
            inputs,
            outputs: vec![
                Argument::zeros(DType::F32, &[batch, queries, heads, value_dim]),
                Argument::zeros(DType::F32, &[batch, heads, queries]),
            ],
            attrs: vec![
                0.25,
                random.pick(&[0.0, 5.0]),
                k_format as f64,
                v_format as f64,
                page as f64,
                value_dim as f64,
            ],
        });
    }
    let (rows, dim) = (random.between(0, 5), random.pick(&[1, 2, 64, 256]));
    cases.push(Case {
        op: "kv_cache_rotate",
        inputs: vec![Some(Argument::floats(&[rows, dim], random))],
        outputs: vec![Argument::zeros(DType::F32, &[rows, dim])],
        attrs: vec![random.between(0, 1 << 20) as f64, random.below(2) as f64],
    });
    cases
}
