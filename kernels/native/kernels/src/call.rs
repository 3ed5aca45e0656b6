//! The one form in which every op is called.

use crate::{ensure, Cpu, KernelError, Pool};
use bytemuck::{try_cast_slice, try_cast_slice_mut, AnyBitPattern, NoUninit};

/// Element types, in the order of the JavaScript list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum DType {
    F32,
    F64,
    F16,
    BF16,
    I32,
    U32,
    I64,
    I8,
    U8,
    Bool,
}

impl DType {
    pub fn from_index(index: usize) -> Option<Self> {
        use DType::*;
        [F32, F64, F16, BF16, I32, U32, I64, I8, U8, Bool].get(index).copied()
    }

    pub fn size(self) -> usize {
        match self {
            DType::F64 | DType::I64 => 8,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F16 | DType::BF16 => 2,
            DType::I8 | DType::U8 | DType::Bool => 1,
        }
    }
}

/// An argument: row-major elements.
#[derive(Debug, Clone, Copy)]
pub struct TensorRef<'a> {
    pub dtype: DType,
    pub shape: &'a [usize],
    pub bytes: &'a [u8],
}

/// A result, or an argument that is written in place.
#[derive(Debug)]
pub struct TensorMut<'a> {
    pub dtype: DType,
    pub shape: &'a [usize],
    pub bytes: &'a mut [u8],
}

impl<'a> TensorRef<'a> {
    /// The elements, when they are of type `T`: checks dtype, length and alignment.
    pub fn elements<T: AnyBitPattern + Element>(&self) -> Result<&'a [T], KernelError> {
        ensure!(
            self.dtype == T::DTYPE,
            "argument is {:?}, the kernel takes {:?}",
            self.dtype,
            T::DTYPE
        );
        if self.bytes.is_empty() {
            // Nothing needs no alignment.
            check_length(0, self.shape)?;
            return Ok(&[]);
        }
        let slice = try_cast_slice(self.bytes).map_err(|error| KernelError(format!("argument bytes: {error}")))?;
        check_length(slice.len(), self.shape)?;
        Ok(slice)
    }

    pub fn f32s(&self) -> Result<&'a [f32], KernelError> {
        self.elements()
    }

    pub fn i32s(&self) -> Result<&'a [i32], KernelError> {
        self.elements()
    }
}

impl TensorMut<'_> {
    pub fn elements<T: AnyBitPattern + NoUninit + Element>(&mut self) -> Result<&mut [T], KernelError> {
        ensure!(
            self.dtype == T::DTYPE,
            "result is {:?}, the kernel writes {:?}",
            self.dtype,
            T::DTYPE
        );
        if self.bytes.is_empty() {
            check_length(0, self.shape)?;
            return Ok(&mut []);
        }
        let slice = try_cast_slice_mut(self.bytes).map_err(|error| KernelError(format!("result bytes: {error}")))?;
        check_length(slice.len(), self.shape)?;
        Ok(slice)
    }

    pub fn f32s(&mut self) -> Result<&mut [f32], KernelError> {
        self.elements()
    }

    pub fn i32s(&mut self) -> Result<&mut [i32], KernelError> {
        self.elements()
    }
}

fn check_length(length: usize, shape: &[usize]) -> Result<(), KernelError> {
    let expected = checked_product(shape)?;
    ensure!(
        length == expected,
        "shape {shape:?} has {expected} elements, the bytes hold {length}"
    );
    Ok(())
}

/// Product of dimensions without overflow.
pub fn checked_product(shape: &[usize]) -> Result<usize, KernelError> {
    shape
        .iter()
        .try_fold(1usize, |product, &dimension| product.checked_mul(dimension))
        .ok_or_else(|| KernelError(format!("shape {shape:?} has too many elements")))
}

/// Rust types of dtypes.
pub trait Element {
    const DTYPE: DType;
}

macro_rules! element {
    ($($rust:ty => $dtype:ident),*) => { $(impl Element for $rust { const DTYPE: DType = DType::$dtype; })* };
}
element!(f32 => F32, f64 => F64, half::f16 => F16, half::bf16 => BF16, i32 => I32, u32 => U32, i64 => I64, i8 => I8, u8 => U8);

/// A call of an op. `outputs` are the op's results in declared order, followed by the arguments it mutates.
pub struct Call<'c, 'a> {
    pub inputs: &'c [Option<TensorRef<'a>>],
    pub outputs: &'c mut [TensorMut<'a>],
    pub attrs: &'c [f64],
    pub pool: &'c dyn Pool,
    pub cpu: Cpu,
}

impl<'a> Call<'_, 'a> {
    pub fn input(&self, index: usize) -> Result<TensorRef<'a>, KernelError> {
        self.optional(index)
            .ok_or_else(|| KernelError(format!("input {index} is missing")))
    }

    pub fn optional(&self, index: usize) -> Option<TensorRef<'a>> {
        self.inputs.get(index).copied().flatten()
    }

    pub fn attr(&self, index: usize) -> Result<f64, KernelError> {
        self.attrs
            .get(index)
            .copied()
            .ok_or_else(|| KernelError(format!("attribute {index} is missing")))
    }

    pub fn attr_usize(&self, index: usize) -> Result<usize, KernelError> {
        let value = self.attr(index)?;
        ensure!(
            value >= 0.0 && value.fract() == 0.0 && value <= 9e15,
            "attribute {index} is {value}, not a non-negative integer"
        );
        Ok(value as usize)
    }

    pub fn attr_bool(&self, index: usize) -> Result<bool, KernelError> {
        Ok(self.attr(index)? != 0.0)
    }

    /// A list attribute that starts at flat position `index`: its items and the position behind it.
    pub fn attr_list(&self, index: usize) -> Result<(Vec<i64>, usize), KernelError> {
        let count = self.attr_usize(index)?;
        ensure!(index + 1 + count <= self.attrs.len(), "attribute list at {index} is cut off");
        let items = &self.attrs[index + 1..index + 1 + count];
        ensure!(
            items.iter().all(|value| value.fract() == 0.0 && value.abs() <= 9e15),
            "attribute list at {index} is {items:?}, not whole numbers"
        );
        Ok((items.iter().map(|&value| value as i64).collect(), index + 1 + count))
    }

    /// The only output together with the other fields, so that inputs and output can be borrowed at once.
    pub fn output(&mut self, index: usize) -> Result<&mut TensorMut<'a>, KernelError> {
        self.outputs
            .get_mut(index)
            .ok_or_else(|| KernelError(format!("output {index} is missing")))
    }
}

/// Every argument holds exactly the elements of its shape, aligned for its type: what the kernels rely on before they look closer.
fn check_arguments(call: &Call) -> Result<(), KernelError> {
    let inputs = call.inputs.iter().flatten().map(|t| (t.dtype, t.shape, t.bytes));
    let outputs = call.outputs.iter().map(|t| (t.dtype, t.shape, &*t.bytes));
    for (dtype, shape, bytes) in inputs.chain(outputs) {
        let expected = checked_product(shape)?.checked_mul(dtype.size());
        ensure!(
            expected == Some(bytes.len()),
            "an argument of shape {shape:?} and type {dtype:?} has {} bytes",
            bytes.len()
        );
        ensure!(
            bytes.is_empty() || (bytes.as_ptr() as usize).is_multiple_of(dtype.size()),
            "an argument of type {dtype:?} is not aligned to its elements"
        );
    }
    Ok(())
}

/// One op of the table. `signature` is `name(inputs)->(outputs)[attributes]`, where `!` marks mutated and `?` optional arguments.
pub struct OpSpec {
    pub name: &'static str,
    pub signature: &'static str,
    pub run: fn(&mut Call) -> Result<(), KernelError>,
}

impl OpSpec {
    /// Checks the arguments and runs the kernel.
    pub fn invoke(&self, call: &mut Call) -> Result<(), KernelError> {
        check_arguments(call)?;
        (self.run)(call)
    }
}
