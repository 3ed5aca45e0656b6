//! How the rows of a pass are cut into chunks of lanes, and which keys each lane sees.

use super::block::Query;
use super::list::{List, Places, Visit, TILE};
use super::visible::Visible;
use super::work::Work;
use std::ops::Range;

/// Most vectors of lanes that share the loads of a key.
pub const MOST_VECTORS: usize = 4;
/// Most lanes of a chunk.
pub const MOST_LANES: usize = 16 * MOST_VECTORS;

/// Which lanes of each vector see the keys of a tile.
pub type Bits<const NV: usize> = [[u32; NV]; TILE];

/// Rows whose vectors go through the tiles together, and the keys each of them may see by causality and window. Lanes without a query
/// see everything, and nobody reads them.
pub struct Chunk {
    pub rows: Range<usize>,
    pub vectors: usize,
    /// Lanes of the pass before this chunk's.
    pub lane: usize,
    low: [i64; MOST_LANES],
    high: [i64; MOST_LANES],
    /// Queries of the call; those behind the last row's are 0.
    indices: [usize; MOST_LANES],
    /// What every lane sees, and what any lane may see.
    common: (i64, i64),
    reach: (i64, i64),
}

impl Chunk {
    fn of(work: &Work, queries: &[Query], rows: Range<usize>, vectors: usize, lane: usize) -> Self {
        let mut chunk = Self {
            vectors,
            lane,
            low: [i64::MIN; MOST_LANES],
            high: [i64::MAX; MOST_LANES],
            indices: [0; MOST_LANES],
            common: (i64::MIN, i64::MAX),
            reach: (i64::MAX, i64::MIN),
            rows: rows.clone(),
        };
        for (lane, &(_, index)) in queries[rows].iter().enumerate() {
            let (low, high) = work.bounds(index);
            chunk.low[lane] = low;
            chunk.high[lane] = high;
            chunk.indices[lane] = index;
            chunk.common = (chunk.common.0.max(low), chunk.common.1.min(high));
            chunk.reach = (chunk.reach.0.min(low), chunk.reach.1.max(high));
        }
        chunk
    }

    /// False when no lane sees a key of the visit.
    pub fn reaches(&self, visit: &Visit, list: &List) -> bool {
        visit.special || visit.seen(list, self.reach.0, self.reach.1) != 0
    }

    /// Per key and vector, which lanes see the key; returns whether any lane does not.
    #[inline(always)]
    pub fn mask<const NV: usize>(&self, work: &Work, lanes: usize, visit: &Visit, list: &List, bits: &mut Bits<NV>) -> bool {
        if !visit.special && visit.seen(list, self.common.0, self.common.1) == visit.all() {
            return false;
        }
        for vector in 0..NV {
            let lanes = vector * lanes..(vector + 1) * lanes;
            if visit.special {
                bits.iter_mut().take(visit.count).for_each(|bits| bits[vector] = 0);
                for (lane, at) in lanes.enumerate() {
                    let seen = self.special(work, at, visit, list);
                    for (key, bits) in bits.iter_mut().enumerate().take(visit.count) {
                        bits[vector] |= ((seen >> key) as u32 & 1) << lane;
                    }
                }
                continue;
            }
            // A lane sees what is tested from one key to another: its bit changes there.
            let mut changes = [0u32; TILE + 1];
            let (mut lows, mut highs) = (Places::new(visit, list), Places::new(visit, list));
            for (lane, at) in lanes.enumerate() {
                let (from, to) = (lows.before(self.low[at]), highs.before(self.high[at].saturating_add(1)));
                if from < to {
                    changes[from] ^= 1 << lane;
                    changes[to] ^= 1 << lane;
                }
            }
            let mut seen = 0;
            for (key, bits) in bits.iter_mut().enumerate().take(visit.count) {
                seen ^= changes[key];
                bits[vector] = match (visit.open >> key & 1, visit.tested >> key & 1) {
                    (1, _) => u32::MAX,
                    (_, 1) => seen,
                    _ => 0,
                };
            }
        }
        true
    }

    /// The keys of a visit that a lane sees, key by key.
    fn special(&self, work: &Work, lane: usize, visit: &Visit, list: &List) -> u64 {
        let Visible::Plan(plan) = &work.task.visible else {
            return visit.all();
        };
        if lane >= self.rows.len() {
            return visit.all();
        }
        let (mut seen, mut key) = (0, 0);
        for index in visit.pieces.clone() {
            let rule = list.rules[index];
            for (within, position) in list.pieces[index].positions().enumerate() {
                let sees = plan.sees(work.batch, self.indices[lane], position, within, rule);
                seen |= u64::from(sees) << key;
                key += 1;
            }
        }
        seen
    }

    /// Position of the query of a lane.
    pub fn position(&self, work: &Work, lane: usize) -> i64 {
        work.position(self.indices[lane])
    }
}

/// Cuts rows into chunks of the `best` number of vectors, and the rest into one of at most `most`.
pub fn cut(work: &Work, queries: &[Query], lanes: usize, (best, most): (usize, usize), chunks: &mut Vec<Chunk>) {
    chunks.clear();
    let (mut row, mut lane) = (0, 0);
    while row < queries.len() {
        let left = (queries.len() - row).div_ceil(lanes);
        let vectors = if left <= most { left } else { best };
        let end = queries.len().min(row + vectors * lanes);
        chunks.push(Chunk::of(work, queries, row..end, vectors, lane));
        row = end;
        lane += vectors * lanes;
    }
}
