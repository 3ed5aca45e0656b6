//! The worker pool below the stream thread. Made for decode steps: hundreds of loops of some ten microseconds.
//!
//! A loop is a number of jobs that whoever is awake claims one by one. Nobody is waited for but those who hold a job, so a worker that the
//! OS has not scheduled costs nothing. Idle workers look for the next loop for a while before they sleep.

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

struct Shared {
    /// Jobs of the current loop in the upper half, jobs claimed in the lower.
    ticket: AtomicU64,
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
            ticket: AtomicU64::new(0),
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
                    .spawn(move || work(&shared))
                    .ok()
            })
            .collect();
        Self { shared, threads }
    }
}

fn work(shared: &Shared) {
    while wait_for_jobs(shared) {
        take_jobs(shared);
    }
}

/// Parts of a ticket: jobs of the loop, jobs claimed.
fn parts(ticket: u64) -> (u64, u64) {
    (ticket >> 32, ticket & 0xffff_ffff)
}

fn claimable(shared: &Shared) -> bool {
    let (jobs, claimed) = parts(shared.ticket.load(Ordering::Acquire));
    claimed < jobs
}

/// Returns when a job can be claimed; false at the end of the pool.
fn wait_for_jobs(shared: &Shared) -> bool {
    let mut start = None;
    for look in 0.. {
        if shared.stop.load(Ordering::Acquire) {
            return false;
        }
        if claimable(shared) {
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
        let (jobs, claimed) = parts(shared.ticket.load(Ordering::SeqCst));
        if claimed < jobs {
            break true;
        }
        sleeping = shared.wake.wait(sleeping).unwrap_or_else(|poisoned| poisoned.into_inner());
    };
    shared.sleepers.fetch_sub(1, Ordering::SeqCst);
    *sleeping -= 1;
    found
}

/// Claims and runs jobs until none is left.
fn take_jobs(shared: &Shared) {
    loop {
        let ticket = shared.ticket.load(Ordering::Acquire);
        let (jobs, claimed) = parts(ticket);
        if claimed >= jobs {
            return;
        }
        if shared
            .ticket
            .compare_exchange_weak(ticket, ticket + 1, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            continue;
        }
        // SAFETY: this thread holds job `claimed` of the loop, so the pointer is the loop's and stays valid until the job counts as done.
        if let Some(job) = unsafe { *shared.job.get() } {
            // SAFETY: as above.
            let run = AssertUnwindSafe(|| unsafe { (*job)(claimed as usize) });
            if catch_unwind(run).is_err() {
                shared.panicked.store(true, Ordering::Release);
            }
        }
        shared.done.fetch_add(1, Ordering::AcqRel);
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
        // SAFETY: every job of the loop before is done, and none can be claimed until the ticket changes.
        unsafe { *shared.job.get() = Some(erased) };
        shared.done.store(0, Ordering::Release);
        shared.ticket.store((jobs as u64) << 32, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            drop(shared.sleeping.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
            shared.wake.notify_all();
        }
        take_jobs(shared);
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
