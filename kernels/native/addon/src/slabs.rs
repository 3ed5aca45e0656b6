//! Blocks of 32 KiB to 1 MiB, cut from large maps that the OS is asked to back with huge pages.
//!
//! Most weights of a small model are of this size. Read token after token in pages of 4 KiB they miss the TLB so often that decoding
//! loses a sixth of its speed (SmolLM2 135M, 4-bit).

use memmap2::{MmapMut, MmapOptions};
use rustc_hash::FxHashMap;
use std::ptr::NonNull;

const SLAB: usize = 32 << 20;
const HUGE_PAGE: usize = 2 << 20;

/// A block and the slab it lies in.
#[derive(Clone, Copy)]
pub struct Piece {
    pub start: NonNull<u8>,
    pub size: usize,
    slab: u32,
}

struct Slab {
    map: MmapMut,
    /// Bytes of the map that were cut off so far.
    cut: usize,
    /// Bytes in use.
    used: usize,
}

/// Pieces are reused by size; a slab of which no piece is in use goes back to the OS.
#[derive(Default)]
pub struct Slabs {
    slabs: FxHashMap<u32, Slab>,
    free: FxHashMap<usize, Vec<Piece>>,
    /// The slab that new pieces are cut from.
    current: u32,
    next: u32,
    /// Bytes of pieces that wait for reuse.
    pub pooled: usize,
}

// SAFETY: the pointers of pieces point into the maps that the struct owns.
unsafe impl Send for Slabs {}

/// Asks for huge pages; a refusal costs speed and nothing else.
pub fn prefer_huge_pages(map: &MmapMut) {
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    #[cfg(not(target_os = "linux"))]
    let _ = map;
}

impl Slabs {
    /// A block of `size` bytes, a multiple of 64 of at most [`SLAB`]; not zeroed when it was in use before.
    pub fn take(&mut self, size: usize) -> std::io::Result<Piece> {
        if let Some(piece) = self.free.get_mut(&size).and_then(Vec::pop) {
            self.pooled -= size;
            self.slab(piece.slab).used += size;
            return Ok(piece);
        }
        let fits = |slab: &Slab| slab.map.len() - slab.cut >= size;
        if self.slabs.get(&self.current).is_none_or(|slab| !fits(slab)) {
            let map = MmapOptions::new().len(SLAB + HUGE_PAGE).map_anon()?;
            prefer_huge_pages(&map);
            let cut = map.as_ptr().align_offset(HUGE_PAGE).min(HUGE_PAGE);
            self.current = self.next;
            self.next += 1;
            self.slabs.insert(self.current, Slab { map, cut, used: 0 });
        }
        let id = self.current;
        let slab = self.slab(id);
        let at = slab.cut;
        slab.cut += size;
        slab.used += size;
        // SAFETY: `at` and the piece behind it lie within the map, by the check above or because a new slab is larger than any piece.
        let start = unsafe { NonNull::new_unchecked(slab.map.as_mut_ptr().add(at)) };
        Ok(Piece { start, size, slab: id })
    }

    pub fn give_back(&mut self, piece: Piece) {
        let slab = self.slab(piece.slab);
        slab.used -= piece.size;
        if slab.used > 0 || piece.slab == self.current {
            self.pooled += piece.size;
            self.free.entry(piece.size).or_default().push(piece);
            return;
        }
        self.slabs.remove(&piece.slab);
        for (size, pieces) in &mut self.free {
            let before = pieces.len();
            pieces.retain(|other| other.slab != piece.slab);
            self.pooled -= (before - pieces.len()) * size;
        }
    }

    fn slab(&mut self, id: u32) -> &mut Slab {
        self.slabs.get_mut(&id).expect("a piece keeps its slab")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Blocks of a few sizes are taken and given back at random; live ones never overlap, and nothing is left over.
    #[test]
    fn pieces_are_apart_and_come_back() {
        let mut slabs = Slabs::default();
        let mut live: BTreeMap<usize, Piece> = BTreeMap::new();
        let mut seed = 7u64;
        let mut random = |below: usize| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        let mut most = 0;
        for _ in 0..20_000 {
            if live.len() < 400 && random(5) > 1 {
                let size = [32 << 10, 208 << 10, 576 << 10, 1 << 20][random(4)];
                let piece = slabs.take(size).expect("memory");
                let at = piece.start.as_ptr() as usize;
                assert_eq!(at % 64, 0);
                let before = live.range(..=at).next_back();
                assert!(before.is_none_or(|(&start, other)| start + other.size <= at));
                assert!(live.range(at..).next().is_none_or(|(&start, _)| at + size <= start));
                live.insert(at, piece);
            } else if let Some(&at) = live.keys().nth(random(live.len().max(1))) {
                slabs.give_back(live.remove(&at).expect("it was there"));
            }
            most = most.max(slabs.slabs.len());
        }
        for piece in std::mem::take(&mut live).into_values() {
            slabs.give_back(piece);
        }
        assert!(most > 3);
        assert!(slabs.slabs.len() <= 1, "{} slabs are left", slabs.slabs.len());
        let waiting: usize = slabs.free.iter().map(|(size, pieces)| size * pieces.len()).sum();
        assert_eq!(slabs.pooled, waiting);
    }
}
