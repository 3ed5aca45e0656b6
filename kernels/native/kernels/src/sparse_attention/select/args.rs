//! What the arguments of selection kernels have in common: lengths, head maps, numbers that −1 turns off.

use crate::call::{Call, TensorRef};
use crate::{ensure, KernelError};

/// Queries and keys of one batch element.
#[derive(Clone, Copy)]
pub struct Lengths {
    pub queries: usize,
    pub keys: usize,
}

impl Lengths {
    /// Position of query 0.
    pub fn offset(self) -> i64 {
        self.keys as i64 - self.queries as i64
    }

    /// Positions of the first and last query of a row block; none where its queries are beyond the length.
    pub fn positions(self, block: usize, block_q: usize) -> Option<(i64, i64)> {
        let first = block * block_q;
        let end = (first + block_q).min(self.queries);
        (first < end).then(|| (self.offset() + first as i64, self.offset() + end as i64 - 1))
    }

    /// Key blocks that some query of the row block may see, the first so many.
    pub fn visible_blocks(self, block: usize, block_q: usize, block_k: usize) -> usize {
        match self.positions(block, block_q) {
            Some((_, last)) if last >= 0 => last as usize / block_k + 1,
            _ => 0,
        }
    }
}

/// Rows (lenQ, lenK) i32 [batch, 2], or `all` for everyone.
pub fn lengths(op: &str, given: Option<TensorRef>, batch: usize, all: Lengths) -> Result<Vec<Lengths>, KernelError> {
    let Some(given) = given else {
        return Ok(vec![all; batch]);
    };
    ensure!(
        given.shape == [batch, 2],
        "{op}: lengths is {:?}, it takes [{batch}, 2]",
        given.shape
    );
    let pair = |pair: &[i32]| {
        let (queries, keys) = (usize::try_from(pair[0]), usize::try_from(pair[1]));
        match (queries, keys) {
            (Ok(queries), Ok(keys)) if queries <= all.queries && keys <= all.keys => Ok(Lengths { queries, keys }),
            _ => Err(KernelError(format!(
                "{op}: lengths ({}, {}) are outside of {} queries and {} keys",
                pair[0], pair[1], all.queries, all.keys
            ))),
        }
    };
    given.i32s()?.chunks_exact(2).map(pair).collect()
}

/// Key-value head of every query head: by the map, or in contiguous groups.
pub fn kv_heads(op: &str, map: Option<TensorRef>, heads: usize, kv_heads: usize) -> Result<Vec<usize>, KernelError> {
    let Some(map) = map else {
        ensure!(
            kv_heads > 0 && heads.is_multiple_of(kv_heads),
            "{op}: {heads} query heads do not share {kv_heads} key-value heads"
        );
        let group = heads / kv_heads;
        return Ok((0..heads).map(|head| head / group).collect());
    };
    let map = map.i32s()?;
    ensure!(map.len() == heads, "{op}: kvMap has {} heads, q {heads}", map.len());
    map.iter()
        .map(|&head| match usize::try_from(head) {
            Ok(own) if own < kv_heads => Ok(own),
            _ => Err(KernelError(format!("{op}: kvMap names head {head} of {kv_heads}"))),
        })
        .collect()
}

/// A count of which −1 means that there is none.
pub fn limit(call: &Call, index: usize) -> Result<Option<usize>, KernelError> {
    if call.attr(index)? == -1.0 {
        return Ok(None);
    }
    call.attr_usize(index).map(Some)
}

/// Queries or keys of a block.
pub fn block(call: &Call, index: usize) -> Result<usize, KernelError> {
    let size = call.attr_usize(index)?;
    ensure!(
        (1..=i32::MAX as usize).contains(&size),
        "attribute {index} is {size}, not the size of a block"
    );
    Ok(size)
}

/// Four axes of an argument.
pub fn axes<const N: usize>(op: &str, name: &str, tensor: &TensorRef) -> Result<[usize; N], KernelError> {
    let shape: Result<[usize; N], _> = tensor.shape.try_into();
    let shape = shape.map_err(|_| KernelError(format!("{op}: {name} is {:?}, it takes {N} axes", tensor.shape)))?;
    // No size is so large that sums and products of a few overflow.
    ensure!(
        shape.iter().all(|&size| size <= i32::MAX as usize),
        "{op}: {name} is {shape:?}, which is too large"
    );
    Ok(shape)
}
