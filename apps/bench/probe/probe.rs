//! probe THREADS: what this machine can do at most, measured now, as one JSON line:
//!
//!   readGBps      bytes read from memory by all threads together, each summing its own 256 MiB in eight streams
//!   f32GFLOPs     f32 multiply-adds in registers (2 operations each), the widest instructions this machine has
//!   int8GOPs      8-bit multiply-adds with 32-bit sums (2 operations each): VNNI, AVX2 or NEON dot products
//!
//! The best of several passes each. Kernels are judged against these figures. Build: rustc -C opt-level=3 -C target-cpu=native probe.rs
use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

/// Runs `work` on every thread at once; returns the shortest wall time of `passes` in seconds.
fn best_time(threads: usize, passes: usize, work: impl Fn(usize) + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let mut best = f64::INFINITY;
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    let mut times = Vec::new();
                    for _ in 0..passes {
                        barrier.wait();
                        let started = Instant::now();
                        work(thread);
                        barrier.wait();
                        times.push(started.elapsed().as_secs_f64());
                    }
                    times
                })
            })
            .collect();
        for handle in handles {
            for time in handle.join().expect("a probe thread panicked") {
                best = best.min(time);
            }
        }
    });
    best
}

fn read_bandwidth(threads: usize) -> f64 {
    const WORDS: usize = 256 << 17;
    const STREAMS: usize = 8;
    const AT_ONCE: usize = 32;
    let buffers: Vec<Vec<u64>> = (0..threads).map(|thread| vec![thread as u64 + 1; WORDS]).collect();
    let seconds = best_time(threads, 8, |thread| {
        let (words, part) = (&buffers[thread][..], WORDS / STREAMS);
        let mut sums = [0u64; 16];
        for start in (0..part).step_by(AT_ONCE) {
            for stream in 0..STREAMS {
                let at_once = &words[stream * part + start..][..AT_ONCE];
                for half in 0..2 {
                    for lane in 0..16 {
                        sums[lane] = sums[lane].wrapping_add(at_once[half * 16 + lane]);
                    }
                }
            }
        }
        black_box(sums);
    });
    (threads * WORDS * 8) as f64 / seconds / 1e9
}

/// Multiply-adds of one call of an arithmetic loop.
const ROUNDS: usize = 4_000_000;
/// Independent sums: enough to hide the latency of a multiply-add.
const CHAINS: usize = 12;

#[cfg(target_arch = "x86_64")]
mod arithmetic {
    use super::{CHAINS, ROUNDS};
    use std::arch::x86_64::*;
    use std::hint::black_box;

    #[target_feature(enable = "avx512f")]
    fn f32_avx512() {
        let (x, y) = (_mm512_set1_ps(black_box(1.000_001)), _mm512_set1_ps(black_box(1e-9)));
        let mut sums = [_mm512_setzero_ps(); CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, x, y);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,fma")]
    fn f32_avx2() {
        let (x, y) = (_mm256_set1_ps(black_box(1.000_001)), _mm256_set1_ps(black_box(1e-9)));
        let mut sums = [_mm256_setzero_ps(); CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, x, y);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn int8_vnni() {
        let (x, y) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(1)));
        let mut sums = [_mm512_setzero_si512(); CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, x, y);
            }
        }
        black_box(sums);
    }

    /// Products of unsigned and signed bytes to 16 bits, pairs to 32 bits: what AVX2 has instead of a dot product.
    #[target_feature(enable = "avx2")]
    fn int8_avx2() {
        let (y, ones) = (_mm256_set1_epi8(black_box(1)), _mm256_set1_epi16(black_box(1)));
        let mut sums = [_mm256_set1_epi8(3); CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_maddubs_epi16(*sum, y), ones));
            }
        }
        black_box(sums);
    }

    /// Operations of one call and the call.
    pub fn f32_loop() -> (f64, fn()) {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature is there.
            return ((2 * 16 * CHAINS * ROUNDS) as f64, || unsafe { f32_avx512() });
        }
        assert!(
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            "the probe needs AVX2 and FMA"
        );
        // SAFETY: the features are there.
        ((2 * 8 * CHAINS * ROUNDS) as f64, || unsafe { f32_avx2() })
    }

    pub fn int8_loop() -> (f64, fn()) {
        if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw") {
            // SAFETY: the features are there.
            return ((2 * 64 * CHAINS * ROUNDS) as f64, || unsafe { int8_vnni() });
        }
        assert!(is_x86_feature_detected!("avx2"), "the probe needs AVX2");
        // SAFETY: the feature is there.
        ((2 * 32 * CHAINS * ROUNDS) as f64, || unsafe { int8_avx2() })
    }
}

#[cfg(target_arch = "aarch64")]
mod arithmetic {
    use super::{CHAINS, ROUNDS};
    use std::arch::aarch64::*;
    use std::hint::black_box;

    fn f32_neon() {
        let mut sums = [0f32; 4 * CHAINS];
        let (x, y) = (black_box(1.000_001f32), black_box(1e-9f32));
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = sum.mul_add(x, y);
            }
        }
        black_box(sums);
    }

    /// Products of bytes to 16 bits, pairs added to 32 bits: what every NEON has.
    fn int8_neon() {
        // SAFETY: NEON is part of every aarch64.
        unsafe {
            let (x, y) = (vdup_n_s8(black_box(3)), vdup_n_s8(black_box(1)));
            let mut sums = [vdupq_n_s32(0); CHAINS];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = vpadalq_s16(*sum, vmull_s8(black_box(x), y));
                }
            }
            black_box(sums);
        }
    }

    pub fn f32_loop() -> (f64, fn()) {
        ((2 * 4 * CHAINS * ROUNDS) as f64, f32_neon)
    }

    pub fn int8_loop() -> (f64, fn()) {
        ((2 * 8 * CHAINS * ROUNDS) as f64, int8_neon)
    }
}

fn arithmetic_peak(threads: usize, (operations, work): (f64, fn())) -> f64 {
    operations * threads as f64 / best_time(threads, 5, |_| work()) / 1e9
}

fn main() {
    let threads: usize = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .filter(|&n| n > 0)
        .expect("usage: probe THREADS");
    let (read, f32, int8) = (
        read_bandwidth(threads),
        arithmetic_peak(threads, arithmetic::f32_loop()),
        arithmetic_peak(threads, arithmetic::int8_loop()),
    );
    println!("{{\"readGBps\":{read:.2},\"f32GFLOPs\":{f32:.1},\"int8GOPs\":{int8:.1}}}");
}
