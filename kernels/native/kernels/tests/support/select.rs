//! Valid calls of the selection kernels.

use super::{Argument, Case, Random};
use filigree_kernels::DType;

fn bits(shape: &[usize], random: &mut Random) -> Option<Argument> {
    Some(Argument::noise(DType::U32, shape, random))
}

/// Rows (lenQ, lenK) within bounds, or nothing.
fn lengths(batch: usize, queries: usize, keys: usize, random: &mut Random) -> Option<Argument> {
    let values: Vec<i32> = (0..batch)
        .flat_map(|_| [random.between(0, queries) as i32, random.between(0, keys) as i32])
        .collect();
    (random.below(2) == 1).then(|| Argument::integers(&values, &[batch, 2]))
}

pub fn selection(random: &mut Random) -> Vec<Case> {
    vec![
        select_row(random),
        pool_blocks(random),
        block_scores(random),
        probe_sums(random),
        lower(random),
        indices(random),
    ]
}

fn select_row(random: &mut Random) -> Case {
    let (batch, heads) = (random.between(1, 2), random.between(1, 2));
    let (rows, columns) = (random.between(0, 5), random.pick(&[0, 1, 31, 33, 70, 300]));
    let (block_q, block_k, scope) = (random.pick(&[1, 16]), random.pick(&[1, 4]), random.below(2));
    let lists = if scope == 1 { 1 } else { rows };
    let list = |random: &mut Random| {
        let mut argument = Argument::floats(&[batch, heads, lists], random);
        for value in argument.data_mut().chunks_exact_mut(4) {
            value.copy_from_slice(&(random.below(20) as f32).to_le_bytes());
        }
        (random.below(2) == 1).then_some(argument)
    };
    let top_p = random.pick(&[1.0, 0.5, 0.9]);
    let attrs = [
        random.pick(&[-1.0, 3.0]),
        random.pick(&[1.0, 0.5]),
        top_p,
        f64::NEG_INFINITY,
        1.0,
        40.0,
    ];
    Case {
        op: "sparse_attention_select_row",
        inputs: vec![
            Some(Argument::floats(&[batch, heads, rows, columns], random)),
            list(random),
            list(random),
            lengths(batch, rows * block_q, columns * block_k, random),
        ],
        outputs: vec![
            Argument::zeros(DType::U32, &[batch, heads, rows, columns.div_ceil(32)]),
            Argument::zeros(DType::I32, &[batch, heads, rows]),
        ],
        attrs: [&attrs[..], &[1.0, 2.0, scope as f64, block_q as f64, block_k as f64]].concat(),
    }
}

fn pool_blocks(random: &mut Random) -> Case {
    let (batch, heads, dim) = (random.between(1, 2), random.between(1, 2), random.pick(&[1, 16, 19]));
    let (page, pages) = (random.pick(&[4, 16]), random.between(0, 3));
    let layout = random.below(3);
    let capacity = page * pages;
    let shape = match layout {
        0 => [batch * pages + 1, heads, page, dim],
        1 => [batch, heads, capacity, dim],
        _ => [batch, capacity, heads, dim],
    };
    let half = random.below(2) == 1;
    let x = if half {
        Argument::halves(&shape, random)
    } else {
        Argument::floats(&shape, random)
    };
    let table = (layout == 0).then(|| Argument::indices(&[batch, pages], batch * pages + 1, random));
    let (block, stride) = (random.between(1, 20), random.between(1, 9));
    Case {
        op: "sparse_attention_pool_blocks",
        inputs: vec![
            Some(x),
            table,
            lengths(batch, capacity, capacity, random),
            Some(Argument::floats(&[batch, heads, dim], random)),
        ],
        outputs: vec![Argument::zeros(DType::F32, &[batch, heads, capacity.div_ceil(stride), dim])],
        attrs: vec![block as f64, stride as f64, random.below(6) as f64, layout as f64],
    }
}

fn block_scores(random: &mut Random) -> Case {
    let (batch, key_heads, group) = (random.between(1, 2), random.between(1, 2), random.between(1, 3));
    let (rows, columns, dim) = (random.between(0, 40), random.between(0, 40), random.pick(&[1, 8, 33]));
    let heads = key_heads * group;
    Case {
        op: "sparse_attention_block_scores",
        inputs: vec![
            Some(Argument::floats(&[batch, heads, rows, dim], random)),
            Some(Argument::floats(&[batch, key_heads, columns, dim], random)),
            Some(Argument::floats(&[batch, key_heads, columns], random)),
            lengths(batch, rows * 4, columns * 4, random),
            (random.below(2) == 1).then(|| Argument::indices(&[heads], key_heads, random)),
        ],
        outputs: vec![Argument::zeros(DType::F32, &[batch, heads, rows, columns])],
        attrs: vec![0.3, 4.0, 4.0, random.below(2) as f64],
    }
}

fn probe_sums(random: &mut Random) -> Case {
    let (key_heads, group, dim) = (random.between(1, 2), random.between(1, 3), random.pick(&[1, 16, 19]));
    let (queries, page, pages) = (
        random.pick(&[0, 1, 30, 90]),
        random.pick(&[4, 16]),
        random.pick(&[0, 1, 9, 70]),
    );
    let heads = key_heads * group;
    let shape = [pages + 1, key_heads, page, dim];
    let half = random.below(2) == 1;
    let k = if half {
        Argument::halves(&shape, random)
    } else {
        Argument::floats(&shape, random)
    };
    let sums = Argument::zeros(DType::F32, &[1, heads, page * pages]);
    Case {
        op: "sparse_attention_probe_sums",
        inputs: vec![
            Some(Argument::floats(&[1, queries, heads, dim], random)),
            Some(k),
            Some(Argument::indices(&[1, pages], pages + 1, random)),
            lengths(1, queries, page * pages, random),
            (random.below(2) == 1).then(|| Argument::indices(&[heads], key_heads, random)),
        ],
        outputs: vec![sums.clone(), sums],
        attrs: vec![random.pick(&[1.0, 7.0, 64.0, 80.0]), 0.3, random.pick(&[0.0, 5.0]), 1.0, -1.0],
    }
}

fn lower(random: &mut Random) -> Case {
    let (key_heads, group) = (random.between(1, 2), random.between(1, 2));
    let (heads, batch) = (key_heads * group, random.between(1, 2));
    let (length_q, past) = (random.between(1, 70), random.pick(&[0, 5, 90]));
    let (block_q, block_k, step) = (random.pick(&[1, 4, 16]), random.pick(&[1, 4, 16]), random.pick(&[1, 4]));
    let (rows, capacity) = (length_q.div_ceil(block_q), length_q + past);
    let words = |bits: usize| bits.div_ceil(32);
    let blocks = capacity.div_ceil(block_k);
    let given: Vec<i32> = (0..rows * 4).map(|_| random.below(40) as i32 - 10).collect();
    let window = random.pick(&[0, 9]);
    let max_columns = random.pick(&[0, 5, capacity]);
    // Runs of blocks, bands, given ranges; two more where they are cut.
    let bands = capacity.div_ceil(step).min(capacity.div_ceil(block_q + 1) + 2);
    let max_ranges = (blocks.div_ceil(2) + bands + 2).min(capacity.div_ceil(2)) + 2;
    let total = batch * heads * rows;
    let plan = 32 + 2 * heads + 3 * batch + total * (5 + 3 * max_ranges + max_columns.min(capacity));
    Case {
        op: "sparse_attention_lower_selection",
        inputs: vec![
            bits(&[batch, heads, rows, words(blocks)], random),
            None,
            bits(&[batch, key_heads, 1, words(capacity)], random),
            bits(&[batch, 1, 1, words(capacity.div_ceil(step))], random),
            Some(Argument::integers(&given, &[rows, 2, 2])),
            lengths(batch, length_q, capacity, random),
            Some(Argument::indices(&[heads], key_heads, random)),
        ],
        outputs: vec![
            Argument::zeros(DType::I32, &[plan]),
            Argument::zeros(DType::F32, &[batch, heads, rows]),
        ],
        attrs: [length_q, heads, block_q, block_k, capacity, step]
            .map(|value| value as f64)
            .into_iter()
            .chain([-1.0, max_columns as f64, random.below(3) as f64, f64::from(window)])
            .collect(),
    }
}

fn indices(random: &mut Random) -> Case {
    let (heads, rows, words) = (random.between(1, 2), random.between(0, 3), random.between(0, 3));
    let (unit, slots) = (random.pick(&[1, 4]), random.pick(&[0, 5, 200]));
    Case {
        op: "sparse_attention_selection_indices",
        inputs: vec![
            bits(&[2, heads, rows, words], random),
            lengths(2, rows, 32 * words * unit, random),
        ],
        outputs: vec![
            Argument::zeros(DType::I32, &[2, heads, rows, slots]),
            Argument::zeros(DType::F32, &[2, heads, rows]),
        ],
        attrs: vec![unit as f64, slots as f64, -1.0],
    }
}
