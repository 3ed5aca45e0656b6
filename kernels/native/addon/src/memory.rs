//! Buffers of one stream: 64-byte aligned blocks from size-class pools, large ones straight from the OS (their untouched pages cost
//! nothing), and read-only maps of files.

use crate::slabs::{prefer_huge_pages, Piece, Slabs};
use memmap2::{Mmap, MmapMut, MmapOptions};
use rustc_hash::FxHashMap;
use std::alloc::{alloc, dealloc, Layout};
use std::cell::Cell;
use std::fs::File;
use std::ptr::NonNull;

const ALIGNMENT: usize = 64;
/// Blocks of at least this size come from the OS.
const LARGE: usize = 1 << 20;
/// Blocks from this size up to [`LARGE`] come from slabs.
const MEDIUM: usize = 32 << 10;
/// Bytes that stay pooled for reuse.
const POOL_LIMIT: usize = 96 << 20;

pub enum Block {
    Empty,
    Small { start: NonNull<u8>, class: usize },
    Medium { piece: Piece },
    Large(Large),
    File { map: Mmap },
}

/// A map of its own.
pub struct Large {
    map: MmapMut,
    huge_pages: Cell<bool>,
}

// SAFETY: a block owns its memory; the stream thread alone holds it.
unsafe impl Send for Block {}

impl Block {
    pub fn pointer(&self) -> *mut u8 {
        match self {
            Block::Empty => NonNull::<u64>::dangling().as_ptr().cast(),
            Block::Small { start, .. } => start.as_ptr(),
            Block::Medium { piece } => piece.start.as_ptr(),
            Block::Large(large) => large.map.as_ptr().cast_mut(),
            Block::File { map } => map.as_ptr().cast_mut(),
        }
    }

    pub fn writable(&self) -> bool {
        !matches!(self, Block::File { .. })
    }

    /// Tells that the whole block is about to be written, so that large pages waste nothing.
    pub fn fill_soon(&self) {
        if let Block::Large(large) = self {
            if !large.huge_pages.replace(true) {
                prefer_huge_pages(&large.map);
            }
        }
    }

    /// Drops the pages of a mapped file from this process; they come back from the page cache when read again.
    pub fn discard(&self) {
        #[cfg(unix)]
        if let Block::File { map } = self {
            // The range begins anywhere in a page; memmap2 rounds it to whole ones. Advice that is not taken costs memory and nothing else.
            // SAFETY: a read-only shared file map: dropped pages are read again from the file.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }
}

#[derive(Default)]
pub struct Memory {
    small: FxHashMap<usize, Vec<NonNull<u8>>>,
    slabs: Slabs,
    large: FxHashMap<usize, Vec<Large>>,
    /// Bytes of small and large blocks that wait for reuse.
    pooled: usize,
    pub live: usize,
    pub peak: usize,
}

// SAFETY: pooled pointers are owned here and moved with the struct.
unsafe impl Send for Memory {}

/// Sizes are rounded up to eighths of a power of two, so that reuse is likely and waste at most an eighth.
fn size_class(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 8).max(ALIGNMENT);
    bytes.div_ceil(step) * step
}

impl Memory {
    /// Bytes that wait for reuse.
    pub fn pooled(&self) -> usize {
        self.pooled + self.slabs.pooled
    }

    pub fn take(&mut self, bytes: usize) -> Result<Block, String> {
        self.live += bytes;
        self.peak = self.peak.max(self.live);
        if bytes == 0 {
            return Ok(Block::Empty);
        }
        let class = size_class(bytes);
        let failed = |what: &str| format!("could not allocate {bytes} bytes ({what})");
        if class >= LARGE {
            if let Some(large) = self.large.get_mut(&class).and_then(Vec::pop) {
                self.pooled -= class;
                return Ok(Block::Large(large));
            }
            let map = MmapOptions::new()
                .len(class)
                .map_anon()
                .map_err(|error| failed(&error.to_string()))?;
            return Ok(Block::Large(Large {
                map,
                huge_pages: Cell::new(false),
            }));
        }
        if class >= MEDIUM {
            let piece = self.slabs.take(class).map_err(|error| failed(&error.to_string()))?;
            return Ok(Block::Medium { piece });
        }
        if let Some(start) = self.small.get_mut(&class).and_then(Vec::pop) {
            self.pooled -= class;
            return Ok(Block::Small { start, class });
        }
        let layout = Layout::from_size_align(class, ALIGNMENT).map_err(|_| failed("size"))?;
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc(layout) }).ok_or_else(|| failed("out of memory"))?;
        Ok(Block::Small { start, class })
    }

    pub fn give_back(&mut self, block: Block, bytes: usize) {
        self.live = self.live.saturating_sub(bytes);
        match block {
            Block::Small { start, class } => {
                if self.pooled + class <= POOL_LIMIT {
                    self.pooled += class;
                    self.small.entry(class).or_default().push(start);
                } else {
                    free(start, class);
                }
            }
            Block::Medium { piece } => self.slabs.give_back(piece),
            Block::Large(large) => {
                let class = large.map.len();
                if self.pooled + class <= POOL_LIMIT && class <= POOL_LIMIT / 4 {
                    self.pooled += class;
                    self.large.entry(class).or_default().push(large);
                }
            }
            Block::Empty | Block::File { .. } => {}
        }
    }
}

fn free(start: NonNull<u8>, class: usize) {
    if let Ok(layout) = Layout::from_size_align(class, ALIGNMENT) {
        // SAFETY: allocated with the same layout in `take`.
        unsafe { dealloc(start.as_ptr(), layout) };
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for (class, blocks) in self.small.drain() {
            for start in blocks {
                free(start, class);
            }
        }
    }
}

/// Maps `bytes` bytes of a file from `offset`, read-only.
pub fn map_file(path: &str, offset: u64, bytes: usize) -> Result<Block, String> {
    let file = File::open(path).map_err(|error| format!("cannot open {path}: {error}"))?;
    let length = file.metadata().map_err(|error| format!("cannot stat {path}: {error}"))?.len();
    if offset.checked_add(bytes as u64).is_none_or(|end| end > length) {
        return Err(format!("{path} has {length} bytes; {bytes} bytes at {offset} are not there"));
    }
    if bytes == 0 {
        return Ok(Block::Empty);
    }
    // SAFETY: changing a file under a map is documented as undefined for users of mapFile.
    let map = unsafe { MmapOptions::new().offset(offset).len(bytes).map(&file) };
    let map = map.map_err(|error| format!("cannot map {path}: {error}"))?;
    Ok(Block::File { map })
}
