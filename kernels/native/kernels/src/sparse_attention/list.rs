//! The keys of a row block in order, and the tiles that they are cut into.

/// Keys per tile. A tile is 64 entries of the list that follow each other, so that every row sums its keys in the same groups.
pub const TILE: usize = 64;
/// Keys per segment, a multiple of [`TILE`]: each is summed on its own and then merged, by one thread or by several.
pub const SEGMENT: usize = 256;

/// What decides whether a query sees a key of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Causality, window and segments; otherwise every query of the block sees it.
    pub tested: bool,
    /// Word of the plan with the bits of the block's queries; 0: none.
    pub bits: usize,
    /// Words from key to key; 0: all keys have the same.
    pub stride: usize,
}

/// Keys at positions that follow each other, within one tile.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub start: usize,
    pub count: usize,
    pub rule: Rule,
}

/// The keys of one tile. Bit i of the masks is the tile's key i.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Place of the first key in the list.
    pub at: usize,
    pub count: usize,
    /// Positions of the first and the last key.
    pub first: usize,
    pub last: usize,
    /// Its pieces in the list.
    pub pieces: std::ops::Range<usize>,
    /// Keys that every query of the block sees.
    pub open: u64,
    /// Keys that a query sees when causality and window allow it.
    pub tested: u64,
    /// Bits, positions or segments decide too.
    pub special: bool,
}

impl Visit {
    pub fn segment(&self) -> usize {
        self.at / SEGMENT
    }

    /// True when the positions follow each other.
    pub fn contiguous(&self) -> bool {
        self.last - self.first + 1 == self.count
    }

    /// All keys of the tile.
    pub fn all(&self) -> u64 {
        ones(self.count)
    }

    /// The keys that a query sees whose causality and window leave it `low … high`.
    pub fn seen(&self, list: &List, low: i64, high: i64) -> u64 {
        if self.tested == 0 || (low <= self.first as i64 && high >= self.last as i64) {
            return self.open | self.tested;
        }
        let (from, to) = (self.before(list, low), self.before(list, high.saturating_add(1)));
        self.open | (self.tested & ones(to) & !ones(from))
    }

    /// How many of the tile's keys are at positions below `end`.
    fn before(&self, list: &List, end: i64) -> usize {
        if self.contiguous() {
            return end.saturating_sub(self.first as i64).clamp(0, self.count as i64) as usize;
        }
        let mut count = 0;
        for piece in &list.pieces[self.pieces.clone()] {
            let below = end.saturating_sub(piece.start as i64).clamp(0, piece.count as i64) as usize;
            count += below;
            if below < piece.count {
                break;
            }
        }
        count
    }
}

/// The lowest `count` ≤ 64 bits.
fn ones(count: usize) -> u64 {
    if count == 0 {
        0
    } else {
        u64::MAX >> (64 - count)
    }
}

/// Where tiles end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    /// Behind 64 entries of the list.
    #[default]
    Places,
    /// Where the next key lies in another 64 positions, so that no group of positions is cut.
    Positions,
}

#[derive(Default)]
pub struct List {
    pub pieces: Vec<Piece>,
    pub visits: Vec<Visit>,
    /// Place of the next key.
    place: usize,
    cut: Cut,
}

impl List {
    /// Starts an empty list whose first key has place `place`.
    pub fn clear(&mut self, place: usize, cut: Cut) {
        self.pieces.clear();
        self.visits.clear();
        self.place = place;
        self.cut = cut;
    }

    /// Appends the keys `start … end`, which lie behind those that are there.
    #[inline]
    pub fn push(&mut self, mut start: usize, end: usize, mut rule: Rule, special: bool) {
        while start < end {
            let (room, begins) = match self.cut {
                Cut::Places => (TILE - self.place % TILE, self.place.is_multiple_of(TILE)),
                Cut::Positions => {
                    let before = self.visits.last().map(|visit| visit.last / TILE);
                    (TILE - start % TILE, before != Some(start / TILE))
                }
            };
            let count = room.min(end - start);
            let piece = self.pieces.len();
            self.pieces.push(Piece { start, count, rule });
            let last = start + count - 1;
            match self.visits.last_mut() {
                Some(visit) if !begins => {
                    let keys = ones(count) << visit.count;
                    *(if rule.tested { &mut visit.tested } else { &mut visit.open }) |= keys;
                    visit.special |= special;
                    visit.count += count;
                    visit.last = last;
                    visit.pieces.end = piece + 1;
                }
                _ => self.visits.push(Visit {
                    at: self.place,
                    count,
                    first: start,
                    last,
                    pieces: piece..piece + 1,
                    open: if rule.tested { 0 } else { ones(count) },
                    tested: if rule.tested { ones(count) } else { 0 },
                    special,
                }),
            }
            start += count;
            self.place += count;
            rule.bits += rule.stride * count;
        }
    }
}
