//! sparse_attention_attention_stats — exact probabilities of a plan's cells, their sum or maximum by blocks.
//! Contract: packages/sparse-attention/src/ops/attention-stats.ts.
//!
//! A job is (batch, head, block of queries) and owns its row of y: queries in lanes, as in attention. 2·cells·D operations; K of the visible
//! keys once per block of queries. Lanes are summed where the next key belongs to another block, so the order is that of the list. Along distances every
//! lane is in a block of its own and adds to it alone: a scalar addition a cell.

use super::ahead::Ahead;
use super::arithmetic::Floats;
use super::block::{lane_count, Buffer};
use super::chunk::{cut, Bits, Chunk, MOST_LANES, MOST_VECTORS};
use super::keys::KeySource;
use super::lanes::pack_queries;
use super::list::{List, Visit, TILE};
use super::plan::Plan;
use super::shape::{Attributes, Shape};
use super::tile::{self, Tile};
use super::visible::{Lengths, Visible};
use super::work::{Task, Work};
use crate::call::{Call, TensorRef};
use crate::pool::Disjoint;
use crate::simd::{exp2, Simd};
use crate::{ensure, simd_dispatch, Cpu, KernelError};

/// What becomes of a block's probabilities.
struct Blocks<'a> {
    queries: usize,
    keys: usize,
    largest: bool,
    /// Blocks are of distances, not of keys.
    distances: bool,
    lse: &'a [f32],
}

/// Rows in lanes: log-sum-exps in units of log 2, which lanes have a query with keys, and where the queries are.
struct Rows {
    logs: [f32; MOST_LANES],
    bits: [u32; MOST_VECTORS],
    positions: [i64; MOST_LANES],
}

pub fn stats(call: &mut Call) -> Result<(), KernelError> {
    let k = call.input(1)?;
    ensure!(k.shape.len() == 4, "attention-stats: k must have four axes");
    let empty = [k.shape[0], k.shape[1], k.shape[2], 0];
    let values = TensorRef {
        dtype: k.dtype,
        shape: &empty,
        bytes: &[],
    };
    let shape = Shape::of_values(
        call,
        values,
        &Attributes {
            scale: 0,
            softcap: 1,
            query_layout: 5,
            precision: None,
            skip: None,
            most: None,
        },
    )?;
    let plan = Plan::read(
        call.input(2)?.i32s()?,
        shape.batch,
        shape.query_heads,
        shape.length_q,
        call.pool,
    )?;
    let table = call.optional(4).map(|table| table.i32s()).transpose()?;
    let source = KeySource::new(k, values, table, shape.batch)?;
    let capacity = source.capacity();
    ensure!(
        plan.length_k.iter().all(|&length| length <= capacity),
        "attention-stats: the plan's lengths {:?} exceed {capacity} keys",
        plan.length_k
    );
    let blocks = Blocks {
        queries: call.attr_usize(2)?,
        keys: call.attr_usize(3)?,
        largest: call.attr_usize(4)? == 1,
        distances: call.attr_usize(6)? == 1,
        lse: call.input(3)?.f32s()?,
    };
    ensure!(
        blocks.queries > 0 && blocks.keys > 0,
        "attention-stats: blocks of {} queries and {} keys",
        blocks.queries,
        blocks.keys
    );
    let rows = shape.length_q.div_ceil(blocks.queries);
    let columns = capacity.div_ceil(blocks.keys);
    let (q, pool, cpu) = (call.input(0)?.f32s()?, call.pool, call.cpu);
    let y = call.output(0)?.f32s()?;
    let heads = shape.batch * shape.query_heads;
    ensure!(
        q.len() == heads * shape.length_q * shape.dim
            && blocks.lse.len() == heads * shape.length_q
            && Some(y.len()) == (heads * rows).checked_mul(columns),
        "attention-stats: q, lse or y does not fit"
    );
    let y = Disjoint::new(y);
    let task = Task {
        table,
        lengths: Lengths {
            q: plan.length_q.clone(),
            k: plan.length_k.clone(),
            offset: plan.offset.clone(),
        },
        heads: shape.heads_of(plan.kv_map(shape.query_heads))?,
        visible: Visible::Plan(Box::new(plan)),
        bias: None,
        shape,
    };
    let shape = &task.shape;
    let mut kv_heads = vec![0; shape.query_heads];
    for (kv_head, heads) in task.heads.iter().enumerate() {
        heads.iter().for_each(|&head| kv_heads[head] = kv_head);
    }
    pool.run(heads * rows, &|job| {
        // Long rows first.
        let (row, head) = (rows - 1 - job / heads, job % heads);
        let (batch, head) = (head / shape.query_heads, head % shape.query_heads);
        let at = (batch * shape.query_heads + head) * rows + row;
        // SAFETY: every job has its own row.
        let y = unsafe { y.part(at * columns, columns) };
        y.fill(0.0);
        let first = row * blocks.queries;
        let end = first.saturating_add(blocks.queries).min(task.lengths.q[batch]).max(first);
        // Results are this job's alone, not rows of o.
        let (o, lse) = (Disjoint::new(&mut []), Disjoint::new(&mut []));
        let work = Work::new(&task, (q, &source), (batch, kv_heads[head]), first..end, (&o, &lse));
        let mut index = first;
        while index < end {
            let count = task.visible.uniform(batch, &[head], index, end - index);
            pass(cpu, &work, head, index, count, &blocks, y);
            index += count;
        }
    });
    Ok(())
}

/// Some queries of a head that see one list of keys.
fn pass(cpu: Cpu, work: &Work, head: usize, first: usize, count: usize, blocks: &Blocks, y: &mut [f32]) {
    let mut keys = List::default();
    let visible = &work.task.visible;
    let positions = (work.position(first), work.position(first + count - 1));
    let name = visible.name(work.batch, head, first);
    visible.list(name, positions, work.length_k(), (work.cut(), false), &mut keys);
    let list = &keys;
    let queries: Vec<_> = (first..first + count).map(|index| (head, index)).collect();
    let mut chunks = vec![];
    let best = if lane_count(cpu) == 8 { 2 } else { 4 };
    cut(work, &queries, lane_count(cpu), (best, best), &mut chunks);
    for chunk in &chunks {
        let rows = &queries[chunk.rows.clone()];
        simd_dispatch!(cpu, lanes(work: &Work, rows: &[(usize, usize)], chunk: &Chunk, list: &List, blocks: &Blocks, y: &mut [f32]));
    }
}

/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn lanes<S: Simd>(work: &Work, rows: &[(usize, usize)], chunk: &Chunk, list: &List, blocks: &Blocks, y: &mut [f32]) {
    let (shape, width) = (work.shape, chunk.vectors * S::LANES);
    let (mut q, mut keys, mut scores) = (Buffer::default(), Buffer::default(), Buffer::default());
    let q = q.of(shape.dim * width);
    let keys = keys.of((TILE + tile::PADDING) * shape.dim);
    let scores = scores.of((TILE + tile::PADDING) * MOST_LANES);
    // Lanes without a query, and those of queries without keys, add nothing.
    let mut rows_seen = Rows {
        logs: [0.0; MOST_LANES],
        bits: [0; MOST_VECTORS],
        positions: [0; MOST_LANES],
    };
    for (lane, &(head, index)) in rows.iter().enumerate() {
        let lse = blocks.lse[shape.lse_row(work.batch, head, index)];
        if lse != f32::NEG_INFINITY {
            rows_seen.positions[lane] = work.position(index);
            rows_seen.logs[lane] = lse * std::f32::consts::LOG2_E;
            rows_seen.bits[lane / S::LANES] |= 1 << (lane % S::LANES);
        }
    }
    // SAFETY: the caller's promise; buffers are sized for the chunk.
    unsafe {
        pack_queries::<Floats<S>>(work, rows, chunk, q);
        for visit in &list.visits {
            if !chunk.reaches(visit, list) {
                continue;
            }
            let tile = work
                .source
                .tile::<Floats<S>>((work.batch, work.kv_head), visit, list, tile::PADDING, keys, &mut []);
            let part = (visit, list, &tile);
            match chunk.vectors {
                1 => add::<S, 1, 8>(work, part, chunk, q, &rows_seen, scores, blocks, y),
                2 => add::<S, 2, 6>(work, part, chunk, q, &rows_seen, scores, blocks, y),
                3 => add::<S, 3, 6>(work, part, chunk, q, &rows_seen, scores, blocks, y),
                _ => add::<S, 4, 4>(work, part, chunk, q, &rows_seen, scores, blocks, y),
            }
        }
    }
}

/// Adds the probabilities of a tile to the blocks of its keys.
///
/// # Safety
/// As for [`lanes`]; the chunk has NV vectors.
#[inline(always)]
unsafe fn add<S: Simd, const NV: usize, const KU: usize>(
    work: &Work,
    (visit, list, tile): (&Visit, &List, &Tile),
    chunk: &Chunk,
    q: &[f32],
    rows: &Rows,
    scores: &mut [f32],
    blocks: &Blocks,
    y: &mut [f32],
) {
    let (shape, width) = (work.shape, NV * S::LANES);
    let mut bits: Bits<NV> = [[u32::MAX; NV]; TILE];
    chunk.mask(work, S::LANES, visit, list, &mut bits);
    let positions = list.pieces[visit.pieces.clone()].iter().flat_map(|piece| piece.positions());
    // SAFETY: the slices have the lengths the functions ask for; the tile is padded.
    unsafe {
        tile::multiply_keys::<Floats<S>, NV, KU>(tile, q, shape.query_scale, scores, &Ahead::nothing());
        if shape.softcap > 0.0 {
            tile::cap_scores(&mut scores[..visit.count * width], shape.softcap);
        }
        let mut block = visit.first / blocks.keys;
        let mut found = S::splat(0.0);
        for (key, position) in positions.enumerate() {
            if !blocks.distances && position / blocks.keys != block {
                flush::<S>(found, blocks.largest, &mut y[block]);
                (block, found) = (position / blocks.keys, S::splat(0.0));
            }
            for vector in 0..NV {
                let at = vector * S::LANES;
                let score = S::load(scores.as_ptr().add(key * width + at));
                let x = S::sub(score, S::load(rows.logs.as_ptr().add(at)));
                // Bounds that NaN survives; exp2 takes no infinities.
                let p = exp2::<S>(S::min(S::splat(130.0), S::max(S::splat(-150.0), x)));
                let seen = bits[key][vector] & rows.bits[vector];
                if blocks.distances {
                    scatter::<S>(p, seen, &rows.positions[at..], position, blocks, y);
                    continue;
                }
                let p = S::select(seen, p, S::splat(0.0));
                found = if blocks.largest {
                    // NaN stays.
                    let nan = !S::greater(p, S::splat(-1.0));
                    S::select(nan | S::greater(p, found), p, found)
                } else {
                    S::add(found, p)
                };
            }
        }
        if !blocks.distances {
            flush::<S>(found, blocks.largest, &mut y[block]);
        }
    }
}

/// Adds what the lanes of `seen` have of a key to the blocks of their distances; keys behind the query have none.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn scatter<S: Simd>(p: S::V, seen: u32, positions: &[i64], key: usize, blocks: &Blocks, y: &mut [f32]) {
    let mut lanes = [0f32; 16];
    // SAFETY: the caller's promise; LANES ≤ 16.
    unsafe { S::store(lanes.as_mut_ptr(), p) };
    for (lane, &value) in lanes[..S::LANES].iter().enumerate() {
        let distance = positions[lane] - key as i64;
        if seen >> lane & 1 == 0 || distance < 0 {
            continue;
        }
        // A plan may put queries beyond the keys that there is room for.
        if let Some(block) = y.get_mut(distance as usize / blocks.keys) {
            accumulate(value, blocks.largest, block);
        }
    }
}

/// Adds what lanes found to a block.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn flush<S: Simd>(found: S::V, largest: bool, block: &mut f32) {
    let mut lanes = [0f32; 16];
    // SAFETY: the caller's promise; LANES ≤ 16.
    unsafe { S::store(lanes.as_mut_ptr(), found) };
    for &value in &lanes[..S::LANES] {
        accumulate(value, largest, block);
    }
}

/// NaN stays.
#[inline(always)]
fn accumulate(value: f32, largest: bool, block: &mut f32) {
    *block = match largest {
        false => *block + value,
        true if value > *block || value.is_nan() => value,
        true => *block,
    };
}
