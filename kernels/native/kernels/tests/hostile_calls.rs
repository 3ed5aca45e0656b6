//! Calls with something wrong in them: a [`KernelError`] or a result, never a panic, and under AddressSanitizer never a byte out of bounds.

mod support;

use filigree_kernels::{Cpu, DType};
use std::panic::{catch_unwind, AssertUnwindSafe};
use support::{cases, run, Argument, Case, Random};

const DTYPES: [DType; 10] = [
    DType::F32,
    DType::F64,
    DType::F16,
    DType::BF16,
    DType::I32,
    DType::U32,
    DType::I64,
    DType::I8,
    DType::U8,
    DType::Bool,
];

/// Changes one thing about the call; returns what.
fn spoil(case: &mut Case, random: &mut Random) -> String {
    let inputs: Vec<usize> = (0..case.inputs.len()).filter(|&index| case.inputs[index].is_some()).collect();
    let which = random.below(inputs.len() + case.outputs.len());
    let is_input = which < inputs.len();
    match random.below(9) {
        0 if !case.attrs.is_empty() => {
            let at = random.below(case.attrs.len());
            case.attrs[at] = random.pick(&[-1.0, 0.5, 1e9, 1e18, f64::NAN, f64::INFINITY, 3.0, 64.0, 0.0]);
            return format!("attribute {at} is {}", case.attrs[at]);
        }
        1 => {
            let length = random.below(case.attrs.len() + 1);
            case.attrs.truncate(length);
            return format!("only {length} attributes");
        }
        2 if is_input => {
            case.inputs[inputs[which]] = None;
            return format!("input {} is missing", inputs[which]);
        }
        3 => {
            let length = random.below(case.outputs.len() + 1);
            case.outputs.truncate(length);
            return format!("only {length} outputs");
        }
        _ => {}
    }
    let argument = if is_input {
        case.inputs[inputs[which]].as_mut().expect("it is there")
    } else {
        &mut case.outputs[which - inputs.len()]
    };
    let count = argument.shape.iter().try_fold(1usize, |product, &d| product.checked_mul(d));
    if count.and_then(|count| count.checked_mul(argument.dtype.size())) != Some(argument.bytes) {
        return "nothing more".into();
    }
    let what = match random.below(7) {
        0 => {
            // Bytes that the shape does not describe.
            argument.bytes = random.below(argument.bytes + 1);
            "cut off"
        }
        1 if !argument.shape.is_empty() => {
            let axis = random.below(argument.shape.len());
            argument.shape[axis] = random.pick(&[0, 1, argument.shape[axis].wrapping_add(1), usize::MAX, 1 << 40]);
            "of a shape that its bytes do not have"
        }
        2 => {
            *argument = Argument::noise(random.pick(&DTYPES), &argument.shape.clone(), random);
            "of another type"
        }
        3 => {
            // The right number of elements in another shape.
            let count = argument.shape.iter().product();
            argument.shape = random.pick(&[[1, count], [count, 1]]).to_vec();
            "of another shape"
        }
        4 => {
            let mut shape: Vec<usize> = argument.shape.iter().map(|&d| d.min(64)).collect();
            if !shape.is_empty() {
                let axis = random.below(shape.len());
                let length = shape[axis].min(64);
                shape[axis] = random.pick(&[0, 1, length + 1, length + 64]);
            }
            *argument = Argument::noise(argument.dtype, &shape, random);
            "longer or shorter"
        }
        5 => {
            argument.shape.push(1);
            "of a higher rank"
        }
        _ => {
            // Ids, slots, page tables and plans that point anywhere.
            let words = argument.bytes / 4;
            if words > 0 && argument.dtype == DType::I32 {
                let at = 4 * random.below(words);
                let any = random.next() as i32;
                let value = random.pick(&[-1, i32::MIN, i32::MAX, 1 << 20, 7, any]);
                argument.data_mut()[at..at + 4].copy_from_slice(&value.to_le_bytes());
            } else {
                argument.data_mut().iter_mut().for_each(|byte| *byte = 0xff);
            }
            "full of other values"
        }
    };
    format!("{} {which} is {what}", if is_input { "input" } else { "output" })
}

#[test]
fn wrong_calls_are_refused_or_harmless() {
    let rounds = if std::env::var("FILIGREE_TEST_TIER").is_ok_and(|tier| tier == "full") {
        40
    } else {
        6
    };
    let mut random = Random(0x1234_5678_9abc_def1);
    let (mut refused, mut ran) = (0, 0);
    let hook = std::panic::take_hook();
    // Panics of kernels are collected below; those of this test are not to be silent.
    std::panic::set_hook(Box::new(|info| {
        if info.location().is_some_and(|location| location.file().contains("tests")) {
            eprintln!("{info}");
        }
    }));
    let mut panics = Vec::new();
    for seed in 1..=rounds {
        for case in cases(seed) {
            for cpu in Cpu::available() {
                for _ in 0..8 {
                    let mut spoiled = case.clone();
                    let mut what = spoil(&mut spoiled, &mut random);
                    if random.below(4) == 0 {
                        what = format!("{what}; {}", spoil_again(&mut spoiled, &mut random));
                    }
                    match catch_unwind(AssertUnwindSafe(|| run(&spoiled, cpu))) {
                        Ok(Ok(_)) => ran += 1,
                        Ok(Err(_)) => refused += 1,
                        Err(cause) => {
                            let text = cause.downcast_ref::<String>().cloned();
                            let text = text.or_else(|| cause.downcast_ref::<&str>().map(ToString::to_string));
                            panics.push(format!("{} on {}: {what}: {}", case.op, cpu.name(), text.unwrap_or_default()));
                        }
                    }
                }
            }
        }
    }
    std::panic::set_hook(hook);
    println!("{refused} calls refused, {ran} harmless");
    panics.sort();
    assert!(
        panics.is_empty(),
        "{} panics, such as\n{}",
        panics.len(),
        panics
            .iter()
            .step_by(panics.len().div_ceil(25))
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    );
    assert!(refused > 2000 && ran > 200);
}

fn spoil_again(case: &mut Case, random: &mut Random) -> String {
    if case.inputs.iter().all(Option::is_none) || case.outputs.is_empty() {
        return "nothing more".into();
    }
    spoil(case, random)
}
