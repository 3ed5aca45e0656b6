//! sparse_attention_page_bounds — least and greatest value of every channel over pages of keys. Contract:
//! packages/sparse-attention/src/select/page-bounds.ts. Reads n·Hk·D elements; every job owns the bounds of one head.

use crate::call::{Call, DType, Element, TensorMut, TensorRef};
use crate::pool::{Disjoint, Pool};
use crate::{ensure, KernelError};
use bytemuck::{AnyBitPattern, NoUninit};
use half::{bf16, f16};

const OP: &str = "page-bounds";

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let (k, slots) = (call.input(2)?, call.input(3)?.i32s()?);
    let pool = call.pool;
    let [low, high] = call.outputs else {
        return Err(KernelError(format!("{OP}: the bounds are missing")));
    };
    ensure!(
        k.shape.len() == 4 && low.shape.len() == 4,
        "{OP}: k and bounds must have four axes"
    );
    let (k_shape, per_page) = (k.shape, low.shape[2]);
    ensure!(
        low.shape == high.shape
            && low.shape[..2] == k_shape[..2]
            && low.shape[3] == k_shape[3]
            && per_page > 0
            && k_shape[2].is_multiple_of(per_page),
        "{OP}: bounds {:?} and {:?} do not fit k {k_shape:?}",
        low.shape,
        high.shape
    );
    let entries = k_shape[0] * k_shape[2];
    ensure!(
        slots.iter().all(|&slot| slot >= 0 && (slot as usize) < entries),
        "{OP}: a slot is outside of the {entries} entries"
    );
    match (k.dtype, low.dtype) {
        (DType::F16, _) => update::<f16, f16>(pool, low, high, &k, slots),
        (_, DType::BF16) => update::<f32, bf16>(pool, low, high, &k, slots),
        _ => update::<f32, f32>(pool, low, high, &k, slots),
    }
}

/// Bounds of values of type T: what is not greater, and what is not less.
trait Bound<T> {
    fn below(value: T) -> Self;
    fn above(value: T) -> Self;
}

impl<T> Bound<T> for T {
    fn below(value: T) -> T {
        value
    }
    fn above(value: T) -> T {
        value
    }
}

/// Rounded outwards: the upper bits are the number next to the value towards 0, the next pattern the one away from it.
impl Bound<f32> for bf16 {
    fn below(value: f32) -> bf16 {
        -Self::above(-value)
    }
    fn above(value: f32) -> bf16 {
        let bits = value.to_bits();
        let upper = (bits >> 16) as u16;
        if value.is_nan() {
            return bf16::from_bits(upper | 0x40);
        }
        bf16::from_bits(upper + u16::from(bits >> 31 == 0 && bits & 0xffff != 0))
    }
}

fn update<T, B>(
    pool: &dyn Pool,
    low: &mut TensorMut,
    high: &mut TensorMut,
    k: &TensorRef,
    slots: &[i32],
) -> Result<(), KernelError>
where
    T: AnyBitPattern + Element + Copy + Sync,
    B: AnyBitPattern + NoUninit + Element + PartialOrd + Send + Sync + Bound<T>,
{
    let (heads, page_size, dim) = (k.shape[1], k.shape[2], k.shape[3]);
    let per_page = low.shape[2];
    let keys = k.elements::<T>()?;
    let (low, high) = (Disjoint::new(low.elements::<B>()?), Disjoint::new(high.elements::<B>()?));
    pool.run(heads, &|head| {
        for &slot in slots {
            let (page, entry) = (slot as usize / page_size, slot as usize % page_size);
            let row = &keys[((page * heads + head) * page_size + entry) * dim..][..dim];
            let at = ((page * heads + head) * per_page + entry / (page_size / per_page)) * dim;
            // SAFETY: rows of other heads are other jobs'.
            let (low, high) = unsafe { (low.part(at, dim), high.part(at, dim)) };
            let fresh = entry.is_multiple_of(page_size / per_page);
            for ((low, high), &value) in low.iter_mut().zip(high).zip(row) {
                let (below, above) = (B::below(value), B::above(value));
                if fresh || below < *low {
                    *low = below;
                }
                if fresh || above > *high {
                    *high = above;
                }
            }
        }
    });
    Ok(())
}
