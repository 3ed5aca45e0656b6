//! Valid calls of the kernels that estimate what a selector chooses from.

use super::{Argument, Case, Random};
use filigree_kernels::DType;

/// Queries and paged keys of one batch element.
pub struct Keys {
    pub heads: usize,
    pub kv_heads: usize,
    pub queries: usize,
    pub length: usize,
    pub dim: usize,
    pub page: usize,
    pub pages: usize,
    pub half: bool,
    pub q: Argument,
    pub k: Argument,
    pub table: Argument,
    pub lengths: Argument,
    pub kv_map: Argument,
}

impl Keys {
    pub fn new(random: &mut Random) -> Self {
        let (kv_heads, group) = (random.between(1, 3), random.pick(&[1, 3, 8]));
        let queries: usize = random.pick(&[1, 2, 17, 40, 130]);
        let (dim, page) = (random.pick(&[2, 16, 18, 64]), random.pick(&[4usize, 16, 64]));
        let length = queries + random.pick(&[0, 5, 100, 300]);
        let (heads, pages) = (kv_heads * group, length.div_ceil(page));
        let half = random.below(2) == 1;
        let order: Vec<i32> = (0..pages as i32).map(|index| pages as i32 - index).collect();
        let map: Vec<i32> = (0..heads).map(|_| random.below(kv_heads) as i32).collect();
        let mut keys = Self {
            heads,
            kv_heads,
            queries,
            length,
            dim,
            page,
            pages,
            half,
            q: Argument::floats(&[1, heads, queries, dim], random),
            k: Argument::zeros(DType::F32, &[0]),
            table: Argument::integers(&order, &[1, pages]),
            lengths: Argument::integers(&[queries as i32, length as i32], &[1, 2]),
            kv_map: Argument::integers(&map, &[heads]),
        };
        keys.k = keys.rows(page, dim, random);
        keys
    }

    /// Pages of so many rows, of the keys' type.
    pub fn rows(&self, rows: usize, dim: usize, random: &mut Random) -> Argument {
        let shape = [self.pages + 1, self.kv_heads, rows, dim];
        if self.half {
            Argument::halves(&shape, random)
        } else {
            Argument::floats(&shape, random)
        }
    }

    /// Optional arguments: the table, and sometimes lengths and a map of heads.
    fn places(&self, random: &mut Random) -> Vec<Option<Argument>> {
        let given = random.below(2) == 1;
        vec![
            Some(self.table.clone()),
            given.then(|| self.lengths.clone()),
            given.then(|| self.kv_map.clone()),
        ]
    }

    fn capacity(&self) -> usize {
        self.pages * self.page
    }
}

fn case(op: &'static str, first: &[&Argument], rest: Vec<Option<Argument>>, output: &[usize], attrs: &[f64]) -> Case {
    Case {
        op,
        inputs: first.iter().map(|&argument| Some(argument.clone())).chain(rest).collect(),
        outputs: vec![Argument::zeros(DType::F32, output)],
        attrs: attrs.to_vec(),
    }
}

pub fn estimates(random: &mut Random) -> Vec<Case> {
    let keys = Keys::new(random);
    let (capacity, length) = (keys.capacity(), keys.length as f64);
    let (stride, block) = random.pick(&[(1, 4), (4, 16), (8, 128), (16, 16)]);
    let (q, k) = (&keys.q, &keys.k);
    let kept = 2 * random.between(1, keys.dim / 2);
    let channels = Argument::indices(&[keys.kv_heads, kept], keys.dim, random);
    let labels = keys.rows(keys.page, kept, random);
    let (mut low, mut high) = (keys.rows(2, keys.dim, random), keys.rows(2, keys.dim, random));
    if !keys.half && random.below(2) == 1 {
        let shape = [keys.pages + 1, keys.kv_heads, 2, keys.dim];
        (low, high) = (Argument::rounded(&shape, random), Argument::rounded(&shape, random));
    }
    let slots: Vec<i32> = (0..keys.length as i32).collect();
    let slots = Argument::integers(&slots, &[slots.len()]);
    let rows = [1, keys.heads, keys.queries];
    vec![
        case(
            "sparse_attention_antidiagonal_scores",
            &[q, k],
            keys.places(random),
            &[1, keys.heads, keys.queries.div_ceil(block), capacity.div_ceil(block)],
            &[0.25, stride as f64, block as f64, 0.0, length],
        ),
        case(
            "sparse_attention_bound_scores",
            &[q, &low, &high],
            keys.places(random),
            &[rows[0], rows[1], rows[2], 2 * keys.pages],
            &[0.25, (keys.page / 2) as f64, 0.0, length],
        ),
        case(
            "sparse_attention_label_scores",
            &[q, &labels, &channels],
            keys.places(random),
            &[rows[0], rows[1], rows[2], capacity],
            &[0.25, 0.0, length],
        ),
        case(
            "sparse_attention_quant_dot",
            &[q, k, &Argument::floats(&rows, random)],
            keys.places(random),
            &[1, keys.heads, keys.queries.div_ceil(16), capacity.div_ceil(7)],
            &[0.25, random.pick(&[4.0, 8.0]), 16.0, 7.0, 0.0, length],
        ),
        descent(&keys, random),
        Case {
            op: "sparse_attention_row_stats",
            inputs: vec![
                Some(q.clone()),
                Some(k.clone()),
                Some(super::plan(keys.heads, keys.queries, keys.length, random)),
                Some(keys.table.clone()),
            ],
            outputs: vec![Argument::zeros(DType::F32, &rows); 2],
            attrs: vec![0.25, random.pick(&[0.0, 5.0]), 0.0],
        },
        Case {
            op: "sparse_attention_page_bounds",
            inputs: vec![None, None, Some(k.clone()), Some(slots.clone())],
            outputs: vec![low, high],
            attrs: vec![],
        },
        Case {
            op: "sparse_attention_append_labels",
            inputs: vec![None, Some(k.clone()), Some(channels), Some(slots)],
            outputs: vec![labels],
            attrs: vec![],
        },
    ]
}

/// Whole numbers, whose products are exact: paths that sum in other orders choose the same blocks.
fn descent(keys: &Keys, random: &mut Random) -> Case {
    let whole = |shape: &[usize], random: &mut Random| {
        let mut argument = Argument::zeros(DType::F32, shape);
        for value in argument.data_mut().chunks_exact_mut(4) {
            value.copy_from_slice(&(random.below(17) as f32 - 8.0).to_le_bytes());
        }
        argument
    };
    let block_k = random.pick(&[1usize, 2, 3, 100]);
    let blocks = keys.capacity().div_ceil(block_k);
    let mut found = case(
        "sparse_attention_chunk_descent",
        &[
            &whole(&[1, keys.heads, keys.queries, keys.dim], random),
            &whole(&[keys.pages + 1, keys.kv_heads, keys.page, keys.dim], random),
        ],
        keys.places(random),
        &[0],
        &[
            random.pick(&[1.0, 3.0, 16.0]),
            64.0,
            block_k as f64,
            2.0,
            0.0,
            keys.length as f64,
        ],
    );
    found.outputs = vec![Argument::zeros(
        DType::U32,
        &[1, keys.heads, keys.queries.div_ceil(64), blocks.div_ceil(32)],
    )];
    found
}
