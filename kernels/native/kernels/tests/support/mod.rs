//! Valid calls of every op, in sizes that end in the middle of vectors, tiles and blocks. Arguments are exact-size heap allocations, so that
//! AddressSanitizer sees a kernel that reads or writes one element too many.

mod coded;
mod estimates;
mod select;

use filigree_kernels::{all_ops, Call, Cpu, DType, KernelError, OpSpec, SerialPool, TensorMut, TensorRef};

/// A small deterministic generator; quality is not the point.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    pub fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

#[derive(Clone, Debug)]
pub struct Argument {
    pub dtype: DType,
    pub shape: Vec<usize>,
    /// Words, so that every type is aligned; the argument is the first `bytes` bytes.
    words: Vec<u64>,
    pub bytes: usize,
}

impl Argument {
    pub fn zeros(dtype: DType, shape: &[usize]) -> Self {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        Self {
            dtype,
            shape: shape.to_vec(),
            words: vec![0; bytes.div_ceil(8)],
            bytes,
        }
    }

    pub fn data(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.bytes]
    }

    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.bytes]
    }

    pub fn floats(shape: &[usize], random: &mut Random) -> Self {
        let mut argument = Self::zeros(DType::F32, shape);
        for value in argument.data_mut().chunks_exact_mut(4) {
            value.copy_from_slice(&random.float().to_le_bytes());
        }
        argument
    }

    pub fn halves(shape: &[usize], random: &mut Random) -> Self {
        let mut argument = Self::zeros(DType::F16, shape);
        for value in argument.data_mut().chunks_exact_mut(2) {
            value.copy_from_slice(&half::f16::from_f32(random.float()).to_le_bytes());
        }
        argument
    }

    pub fn rounded(shape: &[usize], random: &mut Random) -> Self {
        let mut argument = Self::zeros(DType::BF16, shape);
        for value in argument.data_mut().chunks_exact_mut(2) {
            value.copy_from_slice(&half::bf16::from_f32(random.float()).to_le_bytes());
        }
        argument
    }

    pub fn integers(values: &[i32], shape: &[usize]) -> Self {
        let mut argument = Self::zeros(DType::I32, shape);
        for (out, value) in argument.data_mut().chunks_exact_mut(4).zip(values) {
            out.copy_from_slice(&value.to_le_bytes());
        }
        argument
    }

    pub fn indices(shape: &[usize], bound: usize, random: &mut Random) -> Self {
        let values: Vec<i32> = (0..shape.iter().product()).map(|_| random.below(bound) as i32).collect();
        Self::integers(&values, shape)
    }

    pub fn noise(dtype: DType, shape: &[usize], random: &mut Random) -> Self {
        let mut argument = Self::zeros(dtype, shape);
        argument.data_mut().fill_with(|| random.next() as u8);
        if dtype == DType::Bool {
            argument.data_mut().iter_mut().for_each(|byte| *byte &= 1);
        }
        argument
    }
}

#[derive(Clone, Debug)]
pub struct Case {
    pub op: &'static str,
    pub inputs: Vec<Option<Argument>>,
    pub outputs: Vec<Argument>,
    pub attrs: Vec<f64>,
}

pub fn spec(name: &str) -> &'static OpSpec {
    all_ops()
        .into_iter()
        .find(|op| op.name == name)
        .expect("the op is in the table")
}

/// Runs a copy of the case; the outputs on success. Every argument is an allocation of exactly its size, which the allocator aligns.
pub fn run(case: &Case, cpu: Cpu) -> Result<Vec<Vec<u8>>, KernelError> {
    let exact = |argument: &Argument| argument.data().to_vec().into_boxed_slice();
    let data: Vec<Option<Box<[u8]>>> = case.inputs.iter().map(|input| input.as_ref().map(exact)).collect();
    let mut results: Vec<Box<[u8]>> = case.outputs.iter().map(exact).collect();
    let inputs: Vec<_> = case
        .inputs
        .iter()
        .zip(&data)
        .map(|(input, data)| {
            input.as_ref().zip(data.as_ref()).map(|(input, bytes)| TensorRef {
                dtype: input.dtype,
                shape: &input.shape,
                bytes,
            })
        })
        .collect();
    let mut outputs: Vec<_> = case
        .outputs
        .iter()
        .zip(&mut results)
        .map(|(output, bytes)| TensorMut {
            dtype: output.dtype,
            shape: &output.shape,
            bytes,
        })
        .collect();
    let mut call = Call {
        inputs: &inputs,
        outputs: &mut outputs,
        attrs: &case.attrs,
        pool: &SerialPool,
        cpu,
    };
    spec(case.op).invoke(&mut call)?;
    Ok(results.into_iter().map(Vec::from).collect())
}

fn elementwise(random: &mut Random) -> Vec<Case> {
    let n = random.between(0, 67);
    let floats = |random: &mut Random| Some(Argument::floats(&[n], random));
    let case = |op, inputs, attrs: &[f64]| Case {
        op,
        inputs,
        outputs: vec![Argument::zeros(DType::F32, &[n])],
        attrs: attrs.to_vec(),
    };
    let mut cases = vec![
        case("core_softcap", vec![floats(random)], &[30.0]),
        case(
            "core_where",
            vec![
                Some(Argument::noise(DType::Bool, &[n], random)),
                floats(random),
                floats(random),
            ],
            &[],
        ),
    ];
    for kind in 0..15 {
        cases.push(case("core_unary", vec![floats(random)], &[f64::from(kind)]));
    }
    for kind in 0..6 {
        cases.push(case(
            "core_gated_activation",
            vec![floats(random), floats(random)],
            &[f64::from(kind)],
        ));
    }
    let (m, k) = (random.between(0, 9), random.between(1, 9));
    for kind in 0..13 {
        cases.push(Case {
            op: "core_binary",
            inputs: vec![Some(Argument::floats(&[m, k], random)), Some(Argument::floats(&[k], random))],
            outputs: vec![Argument::zeros(DType::F32, &[m, k])],
            attrs: vec![f64::from(kind)],
        });
    }
    let kinds = [
        DType::F32,
        DType::F64,
        DType::F16,
        DType::BF16,
        DType::I32,
        DType::U32,
        DType::I8,
        DType::U8,
        DType::Bool,
    ];
    for from in kinds {
        let to = random.pick(&kinds);
        cases.push(Case {
            op: "core_cast",
            inputs: vec![Some(Argument::noise(from, &[n], random))],
            outputs: vec![Argument::zeros(to, &[n])],
            attrs: vec![to as usize as f64],
        });
    }
    cases
}

fn rows(random: &mut Random) -> Vec<Case> {
    let (rows, width, count) = (random.between(1, 7), random.between(1, 70), random.between(0, 5));
    let x = |random: &mut Random| Some(Argument::floats(&[rows, width], random));
    let like = |shape: &[usize]| vec![Argument::zeros(DType::F32, shape)];
    let k = random.between(0, width);
    vec![
        Case {
            op: "core_softmax",
            inputs: vec![x(random)],
            outputs: like(&[rows, width]),
            attrs: vec![],
        },
        Case {
            op: "core_rms_norm",
            inputs: vec![x(random), Some(Argument::floats(&[width], random))],
            outputs: like(&[rows, width]),
            attrs: vec![1e-5, 0.0],
        },
        Case {
            op: "core_layer_norm",
            inputs: vec![
                x(random),
                Some(Argument::floats(&[width], random)),
                Some(Argument::floats(&[width], random)),
            ],
            outputs: like(&[rows, width]),
            attrs: vec![1e-5],
        },
        Case {
            op: "core_gather_rows",
            inputs: vec![x(random), Some(Argument::indices(&[count], rows, random))],
            outputs: like(&[count, width]),
            attrs: vec![],
        },
        Case {
            op: "core_scatter_rows",
            inputs: vec![
                x(random),
                Some(Argument::indices(&[count], rows, random)),
                Some(Argument::floats(&[count, width], random)),
            ],
            outputs: like(&[rows, width]),
            attrs: vec![f64::from(random.below(2) as u32)],
        },
        Case {
            op: "core_take_along_axis",
            inputs: vec![x(random), Some(Argument::indices(&[rows, count], width, random))],
            outputs: like(&[rows, count]),
            attrs: vec![],
        },
        Case {
            op: "core_top_k",
            inputs: vec![x(random)],
            outputs: vec![
                Argument::zeros(DType::F32, &[rows, k]),
                Argument::zeros(DType::I32, &[rows, k]),
            ],
            attrs: vec![k as f64],
        },
        Case {
            op: "core_arg_max",
            inputs: vec![x(random)],
            outputs: vec![Argument::zeros(DType::I32, &[rows])],
            attrs: vec![],
        },
        Case {
            op: "core_arg_sort",
            inputs: vec![x(random)],
            outputs: vec![Argument::zeros(DType::I32, &[rows, width])],
            attrs: vec![f64::from(random.below(2) as u32)],
        },
        Case {
            op: "core_reduce",
            inputs: vec![x(random)],
            outputs: like(&[width]),
            attrs: vec![random.below(5) as f64, 0.0, 0.0],
        },
    ]
}

fn shapes(random: &mut Random) -> Vec<Case> {
    let (a, b, c) = (random.between(1, 4), random.between(1, 5), random.between(1, 9));
    let dtype = random.pick(&[DType::F32, DType::F16, DType::U8, DType::I64]);
    let start = random.below(b);
    let part = random.between(0, b - start);
    let (tokens, heads, dim) = (random.between(1, 4), random.between(1, 3), 2 * random.between(1, 9));
    let (m, k, n) = (random.between(1, 70), random.between(0, 20), random.between(1, 70));
    vec![
        Case {
            op: "core_slice",
            inputs: vec![Some(Argument::noise(dtype, &[a, b, c], random))],
            outputs: vec![Argument::zeros(dtype, &[a, part, c])],
            attrs: [3.0, 0.0, start as f64, 0.0, 3.0, a as f64, part as f64, c as f64].to_vec(),
        },
        Case {
            op: "core_permute",
            inputs: vec![Some(Argument::noise(dtype, &[a, b, c], random))],
            outputs: vec![Argument::zeros(dtype, &[c, a, b])],
            attrs: vec![3.0, 2.0, 0.0, 1.0],
        },
        Case {
            op: "core_write_slice",
            inputs: vec![None, Some(Argument::noise(dtype, &[a, part, c], random))],
            outputs: vec![Argument::noise(dtype, &[a, b, c], random)],
            attrs: vec![1.0, start as f64],
        },
        Case {
            op: "core_rope",
            inputs: vec![
                Some(Argument::floats(&[tokens, heads, dim], random)),
                Some(Argument::indices(&[tokens], 4000, random)),
                Some(Argument::floats(&[dim / 2], random)),
            ],
            outputs: vec![Argument::zeros(DType::F32, &[tokens, heads, dim])],
            attrs: vec![f64::from(random.below(2) as u32), 1.0],
        },
        Case {
            op: "core_matmul",
            inputs: vec![
                Some(Argument::floats(&[m, k], random)),
                Some(Argument::floats(&[n, k], random)),
            ],
            outputs: vec![Argument::zeros(DType::F32, &[m, n])],
            attrs: vec![0.0, 1.0],
        },
    ]
}

/// GGUF type id, elements and bytes of a block.
pub const TYPES: [(usize, usize, usize); 31] = [
    (0, 1, 4),
    (1, 1, 2),
    (30, 1, 2),
    (2, 32, 18),
    (3, 32, 20),
    (6, 32, 22),
    (8, 32, 34),
    (12, 256, 144),
    (7, 32, 24),
    (13, 256, 176),
    (14, 256, 210),
    (10, 256, 84),
    (11, 256, 110),
    (20, 32, 18),
    (23, 256, 136),
    (34, 256, 54),
    (35, 256, 66),
    (39, 32, 17),
    (40, 64, 36),
    (41, 128, 18),
    (42, 64, 18),
    // Grouped: INT2 … INT8, NF4, FP4, E4M3, E5M2, of groups of 32, 64 and 128.
    (256, 32, 16),
    (258, 128, 40),
    (260, 64, 32),
    (262, 32, 24),
    (264, 128, 72),
    (266, 64, 72),
    (269, 64, 36),
    (271, 32, 20),
    (276, 128, 132),
    (279, 128, 132),
];

fn quantized(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for (id, elements, bytes) in TYPES {
        let k = if elements == 1 {
            random.between(1, 70)
        } else {
            elements * random.between(1, 3)
        };
        let (n, tokens, count) = (random.between(1, 40), random.between(1, 20), random.between(0, 4));
        let width = k / elements * bytes;
        let blocks = Argument::noise(DType::U8, &[n, width], random);
        let repack = Case {
            op: "quantization_repack",
            inputs: vec![Some(blocks.clone())],
            outputs: vec![Argument::zeros(DType::U8, &[n.div_ceil(16), tile_bytes(id, k)])],
            attrs: vec![id as f64, k as f64],
        };
        let tiles = run(&repack, Cpu::Scalar).expect("repacking works");
        let mut packed = repack.outputs[0].clone();
        packed.data_mut().copy_from_slice(&tiles[0]);
        cases.push(repack);
        for (layout, weights) in [(0.0, blocks.clone()), (1.0, packed)] {
            cases.push(Case {
                op: "quantization_matmul",
                inputs: vec![
                    Some(Argument::floats(&[tokens, k], random)),
                    Some(weights),
                    Some(Argument::floats(&[n], random)),
                    Some(Argument::floats(&[tokens, n], random)),
                ],
                outputs: vec![Argument::zeros(DType::F32, &[tokens, n])],
                attrs: vec![id as f64, n as f64, k as f64, layout, f64::from(random.below(2) as u32)],
            });
        }
        if id < 256 {
            cases.push(Case {
                op: "quantization_quantize",
                inputs: vec![Some(Argument::floats(&[n, k], random))],
                outputs: vec![Argument::zeros(DType::U8, &[n, width])],
                attrs: vec![id as f64],
            });
        }
        cases.extend(fused(id, &blocks, (tokens, n, k), random));
        cases.push(Case {
            op: "quantization_dequantize_rows",
            inputs: vec![Some(blocks), Some(Argument::indices(&[count], n, random))],
            outputs: vec![Argument::zeros(DType::F32, &[count, k])],
            attrs: vec![id as f64, k as f64],
        });
    }
    cases
}

/// The ops over several weights of one input, all of them in the same file rows.
fn fused(id: usize, blocks: &Argument, (tokens, n, k): (usize, usize, usize), random: &mut Random) -> [Case; 2] {
    let mut case = |op, weights: usize, outputs: usize| {
        let mut inputs = vec![Some(Argument::floats(&[tokens, k], random))];
        inputs.extend(vec![Some(blocks.clone()); weights]);
        inputs.push(Some(Argument::floats(&[n], random)));
        inputs.extend(vec![None; weights - 1]);
        let list = |value: usize| std::iter::once(weights as f64).chain(vec![value as f64; weights]);
        let mut attrs: Vec<f64> = list(id).chain(list(n)).collect();
        attrs.extend([k as f64, 0.0, f64::from(random.below(2) as u32)]);
        Case {
            op,
            inputs,
            outputs: vec![Argument::zeros(DType::F32, &[tokens, n]); outputs],
            attrs,
        }
    };
    let qkv = case("quantization_qkv", 3, 3);
    let mut glu = case("quantization_glu", 2, 1);
    glu.attrs.push(random.below(6) as f64);
    [qkv, glu]
}

fn tile_bytes(id: usize, k: usize) -> usize {
    use filigree_kernels::quantization::format::{TileLayout, WeightType};
    let kind = WeightType::from_id(id).expect("a known type");
    TileLayout::new(kind, k).expect("whole blocks").bytes
}

fn attention(random: &mut Random) -> Vec<Case> {
    let (kv_heads, group, queries) = (
        random.between(1, 3),
        random.pick(&[1, 3, 8]),
        random.pick(&[1usize, 2, 17, 40]),
    );
    let (dim, value_dim, page) = (
        random.pick(&[1, 16, 18, 64]),
        random.pick(&[2, 16, 34]),
        random.pick(&[4, 16, 64]),
    );
    let length: usize = queries + random.pick(&[0, 5, 100, 600]);
    let pages = length.div_ceil(page);
    let half = random.below(2) == 1;
    let cache = |dim: usize, random: &mut Random| {
        let shape = [pages + 1, kv_heads, page, dim];
        Some(if half {
            Argument::halves(&shape, random)
        } else {
            Argument::floats(&shape, random)
        })
    };
    let heads = kv_heads * group;
    let bias = (random.below(2) == 1).then(|| Argument::floats(&[pages + 1, kv_heads, page], random));
    let q = Some(Argument::floats(&[1, queries, heads, dim], random));
    let (k, v) = (cache(dim, random), cache(value_dim, random));
    let order: Vec<i32> = (0..pages as i32).map(|index| pages as i32 - index).collect();
    let table = Some(Argument::integers(&order, &[1, pages]));
    let outputs = vec![
        Argument::zeros(DType::F32, &[1, queries, heads, value_dim]),
        Argument::zeros(DType::F32, &[1, heads, queries]),
    ];
    let window = random.pick(&[0, 3, 70]);
    let bf16 = random.pick(&[0.0, 1.0]);
    let plan = Some(plan(heads, queries, length, random));
    let slots = random.between(0, 70);
    let list: Vec<i32> = (0..queries * slots)
        .map(|index| (index % slots) as i32 - 1)
        .map(|key| if key < length as i32 { key } else { -1 })
        .collect();
    let lists = Argument::integers(&list, &[1, 1, queries, slots]);
    let lse = Argument::floats(&[1, heads, queries], random);
    let block = random.pick(&[1, 5, 64]);
    vec![
        Case {
            op: "sparse_attention_attention",
            inputs: vec![q.clone(), k.clone(), v.clone(), table.clone(), None, None, bias],
            outputs: outputs.clone(),
            attrs: vec![
                0.25,
                random.pick(&[0.0, 5.0]),
                1.0,
                window as f64,
                length as f64,
                1.0,
                bf16,
                0.0,
                0.0,
                0.0,
                0.0,
                0.0,
            ],
        },
        Case {
            op: "sparse_attention_planned_attention",
            inputs: vec![q.clone(), k.clone(), v.clone(), plan.clone(), table.clone()],
            outputs: outputs.clone(),
            attrs: vec![0.25, 0.0, 1.0, bf16, 0.0, 0.0, 0.0, 0.0, 0.0],
        },
        Case {
            op: "sparse_attention_gather_attention",
            inputs: vec![q.clone(), k.clone(), v, Some(lists), table.clone(), None],
            outputs: outputs.clone(),
            attrs: vec![0.25, 0.0, 1.0, bf16, random.pick(&[0.0, 1.5])],
        },
        Case {
            op: "sparse_attention_attention_stats",
            inputs: vec![q, k, plan, Some(lse.clone()), table],
            outputs: vec![Argument::zeros(
                DType::F32,
                &[1, heads, queries.div_ceil(block), (pages * page).div_ceil(block)],
            )],
            attrs: vec![
                0.25,
                0.0,
                block as f64,
                block as f64,
                random.pick(&[0.0, 1.0]),
                1.0,
                random.pick(&[0.0, 1.0]),
            ],
        },
        Case {
            op: "sparse_attention_merge",
            inputs: vec![
                Some(Argument::floats(&[1, queries, heads, value_dim], random)),
                Some(lse.clone()),
                Some(Argument::floats(&[1, queries, heads, value_dim], random)),
                Some(lse),
            ],
            outputs,
            attrs: vec![1.0],
        },
    ]
}

/// A packed plan: per block of 16 queries a range of sinks, one of recent keys and a column between them.
fn plan(heads: usize, queries: usize, length: usize, random: &mut Random) -> Argument {
    let rows = queries.div_ceil(16);
    let (mut ranges, mut columns, mut begin, mut count, mut column_begin, mut column_count) =
        (vec![], vec![], vec![], vec![], vec![], vec![]);
    for row in 0..rows {
        let end = (length - queries + (row + 1) * 16).min(length);
        let start = end.saturating_sub(random.between(1, 90));
        begin.push((ranges.len() / 3) as i32);
        column_begin.push(columns.len() as i32);
        if start > 4 {
            ranges.extend([0, 2, 0]);
            columns.push(3);
        }
        ranges.extend([start as i32, end as i32, 1]);
        count.push((ranges.len() / 3) as i32 - begin[row]);
        column_count.push(columns.len() as i32 - column_begin[row]);
    }
    let sections = [
        vec![0; heads],
        vec![(length - queries) as i32],
        vec![queries as i32],
        vec![length as i32],
        begin,
        count,
        ranges,
        column_begin,
        column_count,
        columns,
        (0..rows as i32).collect(),
    ];
    let mut words = vec![2, 1, 1, rows as i32, 16, 1, 0, 0];
    words.resize(32, 0);
    words[29] = heads as i32;
    for (index, section) in sections.iter().enumerate() {
        words[8 + index] = words.len() as i32;
        words.extend(section);
    }
    words[7] = words.len() as i32;
    Argument::integers(&words, &[words.len()])
}

fn append(random: &mut Random) -> Vec<Case> {
    let (pages, heads, page) = (random.between(1, 4), random.between(1, 3), random.pick(&[1, 4, 16]));
    let (dim, value_dim) = (2 * random.between(1, 5), 2 * random.between(1, 5));
    let n = random.between(0, pages * page);
    let slots: Vec<i32> = (0..n as i32).collect();
    let half = random.below(2) == 1;
    let cache = |dim| Argument::zeros(if half { DType::F16 } else { DType::F32 }, &[pages, heads, page, dim]);
    vec![Case {
        op: "kv_cache_append",
        inputs: vec![
            None,
            None,
            Some(Argument::floats(&[n, heads, dim], random)),
            Some(Argument::floats(&[n, heads, value_dim], random)),
            Some(Argument::integers(&slots, &[n])),
        ],
        outputs: vec![cache(dim), cache(value_dim)],
        attrs: vec![],
    }]
}

/// At least one valid case of every op.
pub fn cases(seed: u64) -> Vec<Case> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    [
        elementwise,
        rows,
        shapes,
        quantized,
        attention,
        append,
        coded::coded,
        estimates::estimates,
        select::selection,
    ]
    .iter()
    .flat_map(|group| group(&mut random))
    .collect()
}
