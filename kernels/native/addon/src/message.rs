//! What JavaScript asks of the stream, as numbers.
//!
//! A message is a list of records `[length, kind, …]`: 0 an op, 1 `[id, bytes]` an allocation, 2 `[id]` a release. An op is
//! `[op, token, inputs, argument…, outputs, argument…, mutated, index…, attribute…]`, an argument `[id, byte offset, dtype, rank,
//! dimension…]`; an absent input is `[-1]`. Written by packages/backend-native/src/message.ts.

use filigree_kernels::DType;
use rustc_hash::FxHashMap;

/// A range of a buffer as an argument of an op.
pub struct Argument {
    pub id: u32,
    pub offset: usize,
    pub bytes: usize,
    pub dtype: DType,
    pub shape: Vec<usize>,
}

impl Argument {
    pub fn overlaps(&self, other: &Self) -> bool {
        self.id == other.id
            && self.bytes > 0
            && other.bytes > 0
            && self.offset < other.offset + other.bytes
            && other.offset < self.offset + self.bytes
    }
}

pub struct OpCall {
    pub op: usize,
    /// Abort token; 0 is none.
    pub token: u32,
    pub inputs: Vec<Option<Argument>>,
    pub outputs: Vec<Argument>,
    /// Inputs that are written in place.
    pub mutated: Vec<usize>,
    pub attributes: Vec<f64>,
}

pub enum Record {
    Op(OpCall),
    Allocate { id: u32, bytes: usize },
    Release { id: u32 },
}

/// Most arguments of an op, and most dimensions of one.
const MOST_ARGUMENTS: usize = 64;
const MOST_DIMENSIONS: usize = 16;

/// Reads the words of a message and remembers where buffers are named.
struct Words<'a> {
    words: &'a [f64],
    at: usize,
    /// Positions of the buffer ids, in the order in which they were read.
    sites: Vec<usize>,
}

impl Words<'_> {
    fn next(&mut self) -> Option<f64> {
        let value = self.words.get(self.at).copied();
        self.at += 1;
        value
    }

    fn id(&mut self) -> Option<f64> {
        self.sites.push(self.at);
        self.next()
    }

    fn count(&mut self) -> Option<usize> {
        let count = self.next()? as usize;
        (count <= MOST_ARGUMENTS).then_some(count)
    }

    fn argument(&mut self) -> Option<Option<Argument>> {
        let id = self.id()?;
        if id < 0.0 {
            self.sites.pop();
            return Some(None);
        }
        let offset = self.next()? as usize;
        let dtype = DType::from_index(self.next()? as usize)?;
        let rank = self.next()? as usize;
        if rank > MOST_DIMENSIONS {
            return None;
        }
        let shape = (0..rank)
            .map(|_| self.next().map(|dimension| dimension as usize))
            .collect::<Option<Vec<_>>>()?;
        let elements = shape.iter().try_fold(1usize, |product, &d| product.checked_mul(d))?;
        let bytes = elements.checked_mul(dtype.size())?;
        Some(Some(Argument {
            id: id as u32,
            offset,
            bytes,
            dtype,
            shape,
        }))
    }

    fn op(&mut self) -> Option<OpCall> {
        let (op, token) = (self.next()? as usize, self.next()? as u32);
        let inputs = (0..self.count()?).map(|_| self.argument()).collect::<Option<Vec<_>>>()?;
        let outputs = (0..self.count()?)
            .map(|_| self.argument().flatten())
            .collect::<Option<Vec<_>>>()?;
        let mutated = (0..self.count()?)
            .map(|_| self.next().map(|index| index as usize))
            .collect::<Option<Vec<_>>>()?;
        if mutated.iter().any(|&index| index >= inputs.len()) {
            return None;
        }
        let attributes = self.words.get(self.at..)?.to_vec();
        Some(OpCall {
            op,
            token,
            inputs,
            outputs,
            mutated,
            attributes,
        })
    }

    fn record(&mut self) -> Option<Record> {
        let record = match self.next()? as u32 {
            0 => return self.op().map(Record::Op),
            1 => Record::Allocate {
                id: self.id()? as u32,
                bytes: self.next()? as usize,
            },
            2 => Record::Release { id: self.id()? as u32 },
            _ => return None,
        };
        (self.at == self.words.len()).then_some(record)
    }
}

impl Record {
    /// The records of a message with the positions of the words that name buffers; ends with a `None` where the message is malformed.
    pub fn read_all(message: &[f64]) -> impl Iterator<Item = Option<(Self, Vec<usize>)>> + '_ {
        let mut at = Some(0);
        std::iter::from_fn(move || {
            let start = at.filter(|&start| start < message.len())?;
            let end = start.checked_add(message[start] as usize).filter(|&end| end >= start + 2);
            let read = end.and_then(|end| message.get(start + 1..end)).and_then(|words| {
                let mut words = Words {
                    words,
                    at: 0,
                    sites: Vec::new(),
                };
                let record = words.record()?;
                let sites = words.sites.into_iter().map(|site| start + 1 + site).collect();
                Some((record, sites))
            });
            at = if read.is_some() { end } else { None };
            Some(read)
        })
    }

    /// Names another buffer at the `site`-th place that names one; `moved` is added to the offset it had at first, `base`.
    fn rename(&mut self, site: usize, id: u32, base: usize, moved: f64) {
        match self {
            Self::Allocate { id: named, .. } | Self::Release { id: named } => *named = id,
            Self::Op(call) => {
                let mut arguments = call.inputs.iter_mut().flatten().chain(&mut call.outputs);
                if let Some(argument) = arguments.nth(site) {
                    argument.id = id;
                    argument.offset = (base as f64 + moved) as usize;
                }
            }
        }
    }

    fn offset(&self, site: usize) -> usize {
        match self {
            Self::Op(call) => {
                let mut arguments = call.inputs.iter().flatten().chain(&call.outputs);
                arguments.nth(site).map_or(0, |argument| argument.offset)
            }
            _ => 0,
        }
    }
}

/// A place of a program that names a buffer which every run gives anew.
struct Site {
    record: usize,
    /// Which of the record's buffers.
    index: usize,
    /// The byte offset when the program was defined.
    base: usize,
}

/// Records that run again and again, with some of their buffers replaced: parsed once.
pub struct Program {
    pub records: Vec<Record>,
    slots: Vec<Vec<Site>>,
}

impl Program {
    /// `slots` lists for each slot how many words of the message name its buffer, and their positions: `[count, word…, count, word…]`.
    /// None when either is malformed.
    pub fn new(message: &[f64], slots: &[f64]) -> Option<Self> {
        let mut records = Vec::new();
        let mut places = FxHashMap::default();
        for read in Record::read_all(message) {
            let (record, sites) = read?;
            for (index, word) in sites.into_iter().enumerate() {
                places.insert(word, (records.len(), index));
            }
            records.push(record);
        }
        let mut words = slots.iter().map(|&word| word as usize);
        let mut sites = Vec::new();
        while let Some(count) = words.next() {
            let slot = (0..count).map(|_| {
                let &(record, index) = places.get(&words.next()?)?;
                let base = records.get(record).map(|record: &Record| record.offset(index))?;
                Some(Site { record, index, base })
            });
            sites.push(slot.collect::<Option<Vec<_>>>()?);
        }
        Some(Self { records, slots: sites })
    }

    /// Puts other buffers into the slots: `[id, bytes moved]` for each. False when there are not as many.
    pub fn bind(&mut self, buffers: &[f64]) -> bool {
        if buffers.len() != 2 * self.slots.len() {
            return false;
        }
        for (slot, buffer) in self.slots.iter().zip(buffers.chunks_exact(2)) {
            for site in slot {
                self.records[site.record].rename(site.index, buffer[0] as u32, site.base, buffer[1]);
            }
        }
        true
    }
}
