/// Where parallel loops run. Every job runs exactly once, in any order, on any thread; kernels cut work by shape alone, so results
/// do not depend on the number of threads.
pub trait Pool: Sync {
    fn threads(&self) -> usize;
    fn run(&self, jobs: usize, job: &(dyn Fn(usize) + Sync));
}

/// Runs the jobs in order on the calling thread.
pub struct SerialPool;

impl Pool for SerialPool {
    fn threads(&self) -> usize {
        1
    }

    fn run(&self, jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        for index in 0..jobs {
            job(index);
        }
    }
}

/// A shared output that jobs write disjoint parts of.
pub struct Disjoint<T> {
    start: *mut T,
    length: usize,
}

// SAFETY: the only access is `part`, whose caller promises that parts of different jobs do not overlap.
unsafe impl<T: Send> Sync for Disjoint<T> {}
// SAFETY: as above; the pointer is not tied to a thread.
unsafe impl<T: Send> Send for Disjoint<T> {}

impl<T> Disjoint<T> {
    pub fn new(slice: &mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            length: slice.len(),
        }
    }

    /// Elements `from … from + count`.
    ///
    /// # Safety
    /// No two live parts may overlap, and the slice given to `new` must outlive them.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part(&self, from: usize, count: usize) -> &mut [T] {
        assert!(
            from.checked_add(count).is_some_and(|end| end <= self.length),
            "Disjoint: part outside of the slice"
        );
        // SAFETY: in bounds by the assertion; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), count) }
    }
}

impl<T> Disjoint<T> {
    /// Pointer to element `index`, for panels whose rows are not adjacent.
    ///
    /// # Safety
    /// The caller writes only elements that no other job touches, within the slice.
    pub unsafe fn start_at(&self, index: usize) -> *mut T {
        assert!(index < self.length, "Disjoint: element outside of the slice");
        // SAFETY: in bounds by the assertion.
        unsafe { self.start.add(index) }
    }
}

/// Splits `rows` rows of `width` elements over the pool in pieces of at least `grain` elements; `body(first_row, rows_of_output)`.
pub fn for_rows<T: Send>(pool: &dyn Pool, out: &mut [T], rows: usize, grain: usize, body: impl Fn(usize, &mut [T]) + Sync) {
    if rows == 0 || out.is_empty() {
        return;
    }
    let width = out.len() / rows;
    let step = (grain / width.max(1)).clamp(1, rows);
    let jobs = rows.div_ceil(step);
    if jobs == 1 {
        body(0, out);
        return;
    }
    let parts = Disjoint::new(out);
    pool.run(jobs, &|job| {
        let first = job * step;
        let count = step.min(rows - first);
        // SAFETY: jobs cover disjoint row ranges of `out`, which outlives the call.
        body(first, unsafe { parts.part(first * width, count * width) });
    });
}
