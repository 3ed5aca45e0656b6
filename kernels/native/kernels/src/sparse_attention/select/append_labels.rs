//! sparse_attention_append_labels — chosen channels of keys into label pages. Contract:
//! packages/sparse-attention/src/select/append-labels.ts. Moves n·Hk·r elements.

use crate::call::{Call, DType, Element, TensorMut, TensorRef};
use crate::{ensure, KernelError};
use bytemuck::{AnyBitPattern, NoUninit};
use half::f16;

const OP: &str = "append-labels";

pub fn run(call: &mut Call) -> Result<(), KernelError> {
    let (k, channels, slots) = (call.input(1)?, call.input(2)?, call.input(3)?.i32s()?);
    let labels = call.output(0)?;
    ensure!(
        k.shape.len() == 4 && labels.shape.len() == 4 && labels.shape[..3] == k.shape[..3],
        "{OP}: labels {:?} do not fit k {:?}",
        labels.shape,
        k.shape
    );
    ensure!(
        channels.shape == [k.shape[1], labels.shape[3]],
        "{OP}: channels are {:?}",
        channels.shape
    );
    let (entries, dim) = (k.shape[0] * k.shape[2], k.shape[3]);
    let channels = channels.i32s()?;
    ensure!(
        channels.iter().all(|&channel| channel >= 0 && (channel as usize) < dim),
        "{OP}: a channel is outside of {dim}"
    );
    ensure!(
        slots.iter().all(|&slot| slot >= 0 && (slot as usize) < entries),
        "{OP}: a slot is outside of the {entries} entries"
    );
    match k.dtype {
        DType::F16 => copy::<f16>(labels, &k, channels, slots),
        _ => copy::<f32>(labels, &k, channels, slots),
    }
}

fn copy<T: AnyBitPattern + NoUninit + Element>(
    labels: &mut TensorMut,
    k: &TensorRef,
    channels: &[i32],
    slots: &[i32],
) -> Result<(), KernelError> {
    let (heads, page_size, dim) = (k.shape[1], k.shape[2], k.shape[3]);
    let kept = labels.shape[3];
    let (keys, labels) = (k.elements::<T>()?, labels.elements::<T>()?);
    for &slot in slots {
        let (page, entry) = (slot as usize / page_size, slot as usize % page_size);
        for head in 0..heads {
            let row = (page * heads + head) * page_size + entry;
            let label = &mut labels[row * kept..][..kept];
            for (value, &channel) in label.iter_mut().zip(&channels[head * kept..]) {
                *value = keys[row * dim + channel as usize];
            }
        }
    }
    Ok(())
}
