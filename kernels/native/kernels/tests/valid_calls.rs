//! Every op on every CPU path, on small valid calls: it runs, and the paths agree.

mod support;

use filigree_kernels::{all_ops, Cpu, DType};
use std::collections::HashSet;
use support::{cases, run, Case};

fn numbers(case: &Case, output: usize, bytes: &[u8]) -> Vec<f64> {
    match case.outputs[output].dtype {
        DType::F32 => bytes
            .chunks_exact(4)
            .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
            .collect(),
        DType::F16 => bytes
            .chunks_exact(2)
            .map(|b| f64::from(half::f16::from_le_bytes(b.try_into().unwrap()).to_f32()))
            .collect(),
        _ => bytes.iter().map(|&b| f64::from(b)).collect(),
    }
}

#[test]
fn every_op_has_a_case() {
    let covered: HashSet<_> = cases(1).iter().map(|case| case.op).collect();
    for op in all_ops() {
        assert!(covered.contains(op.name), "{} has no case", op.name);
    }
}

#[test]
fn paths_agree_on_valid_calls() {
    let mut count = 0;
    for seed in 1..=20 {
        for case in cases(seed) {
            let expected = run(&case, Cpu::Scalar).unwrap_or_else(|error| panic!("{}: {error}\n{:?}", case.op, case.attrs));
            for cpu in Cpu::available() {
                let actual = run(&case, cpu).unwrap_or_else(|error| panic!("{} on {}: {error}", case.op, cpu.name()));
                for output in 0..expected.len() {
                    let pairs =
                        numbers(&case, output, &actual[output])
                            .into_iter()
                            .zip(numbers(&case, output, &expected[output]));
                    for (index, (a, b)) in pairs.enumerate() {
                        let close = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-3 + 1e-3 * b.abs();
                        assert!(
                            close,
                            "{} on {}: element {index} of output {output} is {a}, the scalar path has {b}",
                            case.op,
                            cpu.name()
                        );
                    }
                }
                count += 1;
            }
        }
    }
    println!("{count} valid calls");
    assert!(count > 2000);
}
