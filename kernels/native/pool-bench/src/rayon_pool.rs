//! The general-purpose pool in the place of ours.

use filigree_kernels::Pool;
use rayon::prelude::*;
use std::error::Error;

/// The rayon pool that the caller is a thread of.
struct CurrentPool;

impl Pool for CurrentPool {
    fn threads(&self) -> usize {
        rayon::current_num_threads()
    }

    fn run(&self, jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        (0..jobs).into_par_iter().for_each(job);
    }
}

/// Calls `work` on a thread of a rayon pool, as it is best for rayon: called from outside, every loop would be handed over first, and its
/// caller sleep.
pub fn with_rayon<R: Send>(threads: usize, work: impl Fn(&dyn Pool) -> R + Sync) -> Result<R, Box<dyn Error>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    Ok(pool.install(|| work(&CurrentPool)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn runs_every_job_once() -> Result<(), Box<dyn Error>> {
        let runs: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
        with_rayon(2, |pool| {
            assert_eq!(pool.threads(), 2);
            pool.run(runs.len(), &|job| {
                runs[job].fetch_add(1, Ordering::Relaxed);
            });
        })?;
        assert!(runs.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        Ok(())
    }
}
