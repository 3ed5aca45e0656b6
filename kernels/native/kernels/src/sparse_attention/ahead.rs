//! Asking for memory that will be read soon, while something else is computed.

use crate::simd::Simd;
use std::cell::Cell;

/// What is asked for step by step of a loop: a few cache lines each, as many at once would wait for each other.
pub struct Ahead<'a> {
    spans: &'a [&'a [u8]],
    /// Lines of a step.
    lines: usize,
    next: Cell<Line>,
}

/// The line that is asked for next, those left of its span with it, and the span behind. One step to the next waits for an addition, no more.
#[derive(Clone, Copy)]
struct Line {
    at: *const u8,
    left: usize,
    span: usize,
}

impl<'a> Ahead<'a> {
    pub fn new(spans: &'a [&'a [u8]], steps: usize) -> Self {
        let lines: usize = spans.iter().map(|span| span.len().div_ceil(64)).sum();
        let first = Line {
            at: std::ptr::null(),
            left: 0,
            span: 0,
        };
        Self {
            spans,
            lines: lines.div_ceil(steps.max(1)),
            next: Cell::new(first),
        }
    }

    /// Nothing is asked for.
    pub fn nothing() -> Self {
        Self::new(&[], 1)
    }

    #[inline(always)]
    pub fn ask<S: Simd>(&self) {
        let mut line = self.next.get();
        'lines: for _ in 0..self.lines {
            // A span may be empty: values of no channels.
            while line.left == 0 {
                let Some(bytes) = self.spans.get(line.span) else {
                    break 'lines;
                };
                line = Line {
                    at: bytes.as_ptr(),
                    left: bytes.len().div_ceil(64),
                    span: line.span + 1,
                };
            }
            S::prefetch(line.at);
            line.at = line.at.wrapping_add(64);
            line.left -= 1;
        }
        self.next.set(line);
    }
}
