//! The worker pool below the stream thread. Made for decode steps: hundreds of loops of some ten microseconds, so workers spin briefly
//! for the next loop before they sleep.

use filigree_kernels::Pool;
use std::cell::UnsafeCell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

type Job = dyn Fn(usize) + Sync;

/// How long an idle worker looks for the next loop before it sleeps.
const SPIN: Duration = Duration::from_micros(40);

struct Shared {
    /// Number of the current loop; a change means work.
    epoch: AtomicUsize,
    job: UnsafeCell<Option<*const Job>>,
    jobs: AtomicUsize,
    next: AtomicUsize,
    /// Workers that have not finished the current loop.
    busy: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    sleeping: Mutex<usize>,
    wake: Condvar,
}

// SAFETY: `job` is written by the stream thread before `epoch` is released, and read by workers after they acquire it; `run` does not
// return, and so does not invalidate the pointer, before every worker has left the loop.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// A pool of `threads` threads, the caller of [`Pool::run`] included.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            jobs: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleeping: Mutex::new(0),
            wake: Condvar::new(),
        });
        let threads = (1..threads)
            .filter_map(|index| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("filigree-{index}"))
                    .spawn(move || work(&shared))
                    .ok()
            })
            .collect();
        Self { shared, threads }
    }
}

fn work(shared: &Shared) {
    let mut seen = 0;
    loop {
        let Some(epoch) = wait_for_epoch(shared, seen) else { return };
        seen = epoch;
        // SAFETY: the epoch was acquired, so the pointer of this loop is visible, and valid until `busy` reaches zero.
        if let Some(job) = unsafe { *shared.job.get() } {
            // SAFETY: as above.
            take_jobs(shared, unsafe { &*job });
        }
        shared.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

fn wait_for_epoch(shared: &Shared, seen: usize) -> Option<usize> {
    let start = Instant::now();
    loop {
        for _ in 0..64 {
            let epoch = shared.epoch.load(Ordering::Acquire);
            if shared.stop.load(Ordering::Acquire) {
                return None;
            }
            if epoch != seen {
                return Some(epoch);
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            break;
        }
    }
    let mut sleeping = shared.sleeping.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *sleeping += 1;
    loop {
        let epoch = shared.epoch.load(Ordering::Acquire);
        if epoch != seen || shared.stop.load(Ordering::Acquire) {
            *sleeping -= 1;
            return (!shared.stop.load(Ordering::Acquire)).then_some(epoch);
        }
        sleeping = shared.wake.wait(sleeping).unwrap_or_else(|poisoned| poisoned.into_inner());
    }
}

fn take_jobs(shared: &Shared, job: &(dyn Fn(usize) + Sync)) {
    let jobs = shared.jobs.load(Ordering::Acquire);
    loop {
        let index = shared.next.fetch_add(1, Ordering::AcqRel);
        if index >= jobs {
            return;
        }
        if catch_unwind(AssertUnwindSafe(|| job(index))).is_err() {
            shared.panicked.store(true, Ordering::Release);
        }
    }
}

impl Pool for Workers {
    fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    fn run(&self, jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        if jobs <= 1 || self.threads.is_empty() {
            for index in 0..jobs {
                job(index);
            }
            return;
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime is erased; workers are done with the reference when this function returns.
        let erased: *const Job = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static Job>(job) };
        // SAFETY: no worker reads `job` now: `busy` was zero when the last loop ended and the epoch has not moved.
        unsafe { *shared.job.get() = Some(erased) };
        shared.jobs.store(jobs, Ordering::Release);
        shared.next.store(0, Ordering::Release);
        shared.busy.store(self.threads.len(), Ordering::Release);
        shared.epoch.fetch_add(1, Ordering::AcqRel);
        if *shared.sleeping.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) > 0 {
            shared.wake.notify_all();
        }
        take_jobs(shared, job);
        let mut spins = 0u32;
        while shared.busy.load(Ordering::Acquire) > 0 {
            spins += 1;
            if spins.is_multiple_of(1024) {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
        if shared.panicked.swap(false, Ordering::AcqRel) {
            panic!("a kernel panicked on a worker thread");
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        {
            let _guard = self.shared.sleeping.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            self.shared.wake.notify_all();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
