//! The keys of a row block in order, and the tiles that they are cut into.

/// Keys per tile. A tile is 64 entries of the list that follow each other, so that every row sums its keys in the same groups.
pub const TILE: usize = 64;
/// Keys per segment, a multiple of [`TILE`]: each is summed on its own and then merged, by one thread or by several.
pub const SEGMENT: usize = 256;

/// What decides whether a query sees the keys of a piece.
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
    pub start: u32,
    pub count: u32,
}

impl Piece {
    pub fn positions(self) -> std::ops::Range<usize> {
        self.start as usize..self.start as usize + self.count as usize
    }
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
        let mut places = Places::new(self, list);
        let (from, to) = (places.before(low), places.before(high.saturating_add(1)));
        self.open | (self.tested & ones(to) & !ones(from))
    }
}

/// Counts the keys of a tile below a position; positions that ascend are found without starting anew.
pub struct Places<'a> {
    pieces: &'a [Piece],
    visit: &'a Visit,
    piece: usize,
    /// Keys of the pieces before.
    counted: usize,
    end: i64,
}

impl<'a> Places<'a> {
    pub fn new(visit: &'a Visit, list: &'a List) -> Self {
        Self {
            pieces: &list.pieces[visit.pieces.clone()],
            visit,
            piece: 0,
            counted: 0,
            end: i64::MIN,
        }
    }

    /// How many of the tile's keys are at positions below `end`.
    pub fn before(&mut self, end: i64) -> usize {
        if self.visit.contiguous() {
            return end.saturating_sub(self.visit.first as i64).clamp(0, self.visit.count as i64) as usize;
        }
        if end < self.end {
            (self.piece, self.counted) = (0, 0);
        }
        self.end = end;
        while let Some(piece) = self.pieces.get(self.piece) {
            let below = end.saturating_sub(i64::from(piece.start)).clamp(0, i64::from(piece.count));
            if below < i64::from(piece.count) {
                return self.counted + below as usize;
            }
            self.counted += piece.count as usize;
            self.piece += 1;
        }
        self.counted
    }
}

/// The lowest `count` ≤ 64 bits.
pub fn ones(count: usize) -> u64 {
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
    /// Rules of the pieces, kept where there are more than the masks of the tiles say.
    pub rules: Vec<Rule>,
    pub visits: Vec<Visit>,
    /// Place of the next key.
    place: usize,
    cut: Cut,
    ruled: bool,
}

impl List {
    /// Starts an empty list whose first key has place `place`, with rules of pieces if `ruled`.
    pub fn clear(&mut self, place: usize, cut: Cut, ruled: bool) {
        self.pieces.clear();
        self.rules.clear();
        self.visits.clear();
        (self.place, self.cut, self.ruled) = (place, cut, ruled);
    }

    /// Appends the keys `start … end`, which lie behind those that are there.
    pub fn push(&mut self, start: usize, end: usize, mut rule: Rule, special: bool) {
        let mut start = start;
        while start < end {
            let (room, begins) = self.room(start);
            let count = room.min(end - start);
            self.pieces.push(Piece {
                start: start as u32,
                count: count as u32,
            });
            if self.ruled {
                self.rules.push(rule);
            }
            self.extend(count, (start, start + count - 1), 1, begins, rule.tested, special);
            start += count;
            rule.bits += rule.stride * count;
        }
    }

    /// Appends single keys that are tested by nothing but causality and window.
    pub fn push_columns(&mut self, mut columns: &[i32]) {
        while let Some(&first) = columns.first() {
            let (room, begins) = self.room(first as usize);
            let count = match self.cut {
                Cut::Places => room.min(columns.len()),
                Cut::Positions => 1,
            };
            let (now, rest) = columns.split_at(count);
            self.pieces.extend(now.iter().map(|&column| Piece {
                start: column as u32,
                count: 1,
            }));
            self.extend(count, (first as usize, now[count - 1] as usize), count, begins, true, false);
            columns = rest;
        }
    }

    /// How many entries from position `start` on belong to its tile, and whether the tile begins there.
    fn room(&self, start: usize) -> (usize, bool) {
        let before = self.visits.last();
        match self.cut {
            Cut::Places => (TILE - self.place % TILE, before.is_none() || self.place.is_multiple_of(TILE)),
            Cut::Positions => (
                TILE - start % TILE,
                before.is_none_or(|visit| visit.last / TILE != start / TILE),
            ),
        }
    }

    /// Accounts for the last `pieces` of the list: `count` keys of one tile.
    fn extend(
        &mut self,
        count: usize,
        (first, last): (usize, usize),
        pieces: usize,
        begins: bool,
        tested: bool,
        special: bool,
    ) {
        let end = self.pieces.len();
        if begins {
            self.visits.push(Visit {
                at: self.place,
                count: 0,
                first,
                last,
                pieces: end - pieces..end,
                open: 0,
                tested: 0,
                special: false,
            });
        }
        self.place += count;
        if let Some(visit) = self.visits.last_mut() {
            let keys = ones(count) << visit.count;
            *(if tested { &mut visit.tested } else { &mut visit.open }) |= keys;
            visit.special |= special;
            visit.count += count;
            visit.last = last;
            visit.pieces.end = end;
        }
    }
}
