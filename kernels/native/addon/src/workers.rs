//! The worker pool below the stream thread. Made for decode steps: hundreds of loops of some ten microseconds.
//!
//! A loop is a number of jobs, cut into one share per thread. Threads claim the jobs of their own share one by one and in order, so that what
//! adjoining jobs read streams through one core; then they help with the other shares. Nobody is waited for but those who hold a job, so a
//! worker that the OS has not scheduled costs nothing. Idle workers look for the next loop for a while before they sleep.

use filigree_kernels::Pool;
use std::cell::UnsafeCell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

type Job = dyn Fn(usize) + Sync;

/// How long an idle worker looks for the next loop before it sleeps; waking it takes about as long.
const PATIENCE: Duration = Duration::from_micros(100);
/// Looks without leaving the core; after these the core is offered to other threads between looks.
const SPINS: usize = 1 << 10;

/// A thread's share of the jobs: where it ends in the upper half, the next job to claim in the lower. On a cache line of its own.
#[repr(align(128))]
struct Share(AtomicU64);

impl Share {
    fn left(&self, order: Ordering) -> bool {
        let (end, next) = parts(self.0.load(order));
        next < end
    }

    /// Claims the next job of the share.
    fn claim(&self) -> Option<usize> {
        let mut share = self.0.load(Ordering::Acquire);
        loop {
            let (end, next) = parts(share);
            if next >= end {
                return None;
            }
            match self
                .0
                .compare_exchange_weak(share, share + 1, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Some(next as usize),
                Err(changed) => share = changed,
            }
        }
    }
}

struct Shared {
    /// By thread; the first is that of the caller of [`Pool::run`].
    shares: Vec<Share>,
    job: UnsafeCell<Option<*const Job>>,
    /// Jobs of the current loop that are finished.
    done: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    sleeping: Mutex<usize>,
    sleepers: AtomicUsize,
    wake: Condvar,
}

// SAFETY: `job` is written by the stream thread while every job of the loop before is done, and read only by a thread that has claimed a
// job and not yet counted it as done; `run` returns, and so invalidates the pointer, when all are.
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
            shares: (0..threads.max(1)).map(|_| Share(AtomicU64::new(0))).collect(),
            job: UnsafeCell::new(None),
            done: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleeping: Mutex::new(0),
            sleepers: AtomicUsize::new(0),
            wake: Condvar::new(),
        });
        let threads = (1..threads)
            .filter_map(|index| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("filigree-{index}"))
                    .spawn(move || work(&shared, index))
                    .ok()
            })
            .collect();
        Self { shared, threads }
    }
}

fn work(shared: &Shared, thread: usize) {
    while wait_for_jobs(shared) {
        take_jobs(shared, thread);
    }
}

/// Parts of a share: its end, and the next job.
fn parts(share: u64) -> (u64, u64) {
    (share >> 32, share & 0xffff_ffff)
}

fn claimable(shared: &Shared, order: Ordering) -> bool {
    shared.shares.iter().any(|share| share.left(order))
}

/// Returns when a job can be claimed; false at the end of the pool.
fn wait_for_jobs(shared: &Shared) -> bool {
    let mut start = None;
    for look in 0.. {
        if shared.stop.load(Ordering::Acquire) {
            return false;
        }
        if claimable(shared, Ordering::Acquire) {
            return true;
        }
        if look < SPINS {
            std::hint::spin_loop();
            continue;
        }
        if start.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            break;
        }
        std::thread::yield_now();
    }
    let mut sleeping = shared.sleeping.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *sleeping += 1;
    // Sequentially consistent, as is the start of a loop: either the starter sees a sleeper, or the sleeper sees the jobs.
    shared.sleepers.fetch_add(1, Ordering::SeqCst);
    let found = loop {
        if shared.stop.load(Ordering::SeqCst) {
            break false;
        }
        if claimable(shared, Ordering::SeqCst) {
            break true;
        }
        sleeping = shared.wake.wait(sleeping).unwrap_or_else(|poisoned| poisoned.into_inner());
    };
    shared.sleepers.fetch_sub(1, Ordering::SeqCst);
    *sleeping -= 1;
    found
}

/// Claims and runs jobs until none is left: those of the thread's own share, then those of the shares behind it.
fn take_jobs(shared: &Shared, thread: usize) {
    let (before, own) = shared.shares.split_at(thread);
    for share in own.iter().chain(before) {
        while let Some(index) = share.claim() {
            // SAFETY: this thread holds a job of the loop, so the pointer is the loop's and stays valid until the job counts as done.
            if let Some(job) = unsafe { *shared.job.get() } {
                // SAFETY: as above.
                let run = AssertUnwindSafe(|| unsafe { (*job)(index) });
                if catch_unwind(run).is_err() {
                    shared.panicked.store(true, Ordering::Release);
                }
            }
            shared.done.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Pool for Workers {
    fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    fn run(&self, jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        if jobs <= 1 || self.threads.is_empty() || jobs > u32::MAX as usize {
            for index in 0..jobs {
                job(index);
            }
            return;
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime is erased; nobody uses the reference when this function returns.
        let erased: *const Job = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static Job>(job) };
        // SAFETY: every job of the loop before is done, and none can be claimed until a share changes.
        unsafe { *shared.job.get() = Some(erased) };
        shared.done.store(0, Ordering::Release);
        let count = shared.shares.len();
        for (thread, share) in shared.shares.iter().enumerate() {
            let (next, end) = (thread * jobs / count, (thread + 1) * jobs / count);
            share.0.store((end as u64) << 32 | next as u64, Ordering::SeqCst);
        }
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            drop(shared.sleeping.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
            shared.wake.notify_all();
        }
        take_jobs(shared, 0);
        let mut spins = 0;
        while shared.done.load(Ordering::Acquire) < jobs {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        if shared.panicked.swap(false, Ordering::AcqRel) {
            panic!("a kernel panicked on a worker thread");
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(self.shared.sleeping.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
