//! What is measured of a pool: the latency of a loop, back to back and after a pause, and loops that read weights as a decode step does.

use filigree_kernels::Pool;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// One figure; `bytes` is what a token reads, zero where nothing is.
pub struct Figure {
    pub work: String,
    pub unit: &'static str,
    pub value: f64,
    pub bytes: usize,
}

/// A loop of a decode step: a matmul over `tiles` tiles of `bytes` bytes each.
#[derive(Clone, Copy)]
struct Region {
    tiles: usize,
    bytes: usize,
}

impl Region {
    /// Reads the tiles at byte `from` of `weights` once, in as many jobs as the quantised matmul makes.
    fn read(self, pool: &dyn Pool, weights: &[u64], from: usize) {
        let per_job = self.tiles.div_ceil(pool.threads() * JOBS_PER_THREAD).max(1);
        pool.run(self.tiles.div_ceil(per_job), &|job| {
            let end = ((job + 1) * per_job).min(self.tiles);
            let part = &weights[(from + job * per_job * self.bytes) / 8..(from + end * self.bytes) / 8];
            black_box(part.iter().fold(0u64, |sum, word| sum.wrapping_add(*word)));
        });
    }
}

/// As in `filigree_kernels`, quantization/matmul.rs.
const JOBS_PER_THREAD: usize = 4;
const LATENCIES: usize = 10_000;
/// Fewer, since each takes a pause.
const LATENCIES_AFTER_PAUSE: usize = 1_000;
const PAUSE: Duration = Duration::from_millis(1);
/// Weights come from memory: tokens go round in so many bytes.
const BEYOND_CACHES: usize = 192 << 20;
const TOKENS: usize = 50;
/// How long tokens are measured at least, where they are short.
const MEASURED: Duration = Duration::from_millis(200);
/// Until the OS has given every thread a core of its own: some pack threads that have just started.
const WARM_UP: Duration = Duration::from_millis(300);
/// Bytes of 16 rows of 576 weights in Q4_1: a tile of a matmul of SmolLM2 135M.
const TILE: usize = 16 * 576 / 32 * 20;
/// Layers of SmolLM2 135M.
const LAYERS: usize = 30;
/// The matmuls of a layer: q, k, v and o of 576, 192, 192 and 576 rows, gate and up of 1,536 rows, down of 576 rows of 1,536 weights.
const LAYER: [Region; 7] = [
    tiles(576 / 16),
    tiles(192 / 16),
    tiles(192 / 16),
    tiles(576 / 16),
    tiles(1536 / 16),
    tiles(1536 / 16),
    Region {
        tiles: 576 / 16,
        bytes: 16 * 1536 / 32 * 20,
    },
];

const fn tiles(tiles: usize) -> Region {
    Region { tiles, bytes: TILE }
}

/// A block of weights in tiles.
const fn block(bytes: usize) -> Region {
    tiles(bytes.div_ceil(TILE))
}

/// Everything that is measured of one pool; called on the thread that starts the loops.
pub fn measure(pool: &dyn Pool) -> Vec<Figure> {
    let decodes = [
        ("7 matmuls of SmolLM2 135M, Q4_1".to_string(), LAYER),
        ("blocks of 8 KiB".to_string(), [block(8 << 10); 7]),
        ("blocks of 64 KiB".to_string(), [block(64 << 10); 7]),
        ("blocks of 500 KiB".to_string(), [block(500 << 10); 7]),
    ];
    let at_once = warm_up(pool);
    if at_once < 0.9 * pool.threads() as f64 {
        eprintln!(
            "of {} threads {at_once:.1} ran at once: something else has the cores",
            pool.threads()
        );
    }
    let mut figures = Vec::new();
    for (name, tiles) in [("empty loop", 0), ("loop over 64 KiB", block(64 << 10).tiles)] {
        figures.extend(latency(pool, name, LATENCIES, None, tiles));
        let paused = format!("{name} after a pause of 1 ms");
        figures.extend(latency(pool, &paused, LATENCIES_AFTER_PAUSE, Some(PAUSE), tiles));
    }
    figures.extend(decodes.map(|(name, layer)| decode(pool, &name, &layer)));
    figures
}

/// Keeps every thread busy for a while; how many of them ran at once, on average.
fn warm_up(pool: &dyn Pool) -> f64 {
    const JOB: Duration = Duration::from_micros(500);
    let (start, mut loops) = (Instant::now(), 0);
    while start.elapsed() < WARM_UP {
        pool.run(pool.threads(), &|_| {
            let start = Instant::now();
            while start.elapsed() < JOB {
                std::hint::spin_loop();
            }
        });
        loops += pool.threads() as u32;
    }
    (JOB * loops).as_secs_f64() / start.elapsed().as_secs_f64()
}

/// Median and 99th percentile of the time of a loop over so many tiles, or over one empty job per thread.
fn latency(pool: &dyn Pool, work: &str, count: usize, pause: Option<Duration>, tiles: usize) -> [Figure; 2] {
    let weights = vec![1u64; tiles * TILE / 8];
    let sample = || {
        if let Some(pause) = pause {
            std::thread::sleep(pause);
        }
        let start = Instant::now();
        if tiles == 0 {
            pool.run(pool.threads(), &|job| {
                black_box(job);
            });
        } else {
            self::tiles(tiles).read(pool, &weights, 0);
        }
        1e6 * start.elapsed().as_secs_f64()
    };
    warm_up(pool);
    let mut times: Vec<f64> = (0..count).map(|_| sample()).collect();
    times.sort_by(f64::total_cmp);
    [("median", 0.5), ("p99", 0.99)].map(|(name, part)| Figure {
        work: format!("{work}, {name}"),
        unit: "µs",
        value: times[((count - 1) as f64 * part) as usize],
        bytes: 0,
    })
}

/// Tokens a second where a token is the loops of `layer` once for every layer, one after the other, each over weights of its own.
fn decode(pool: &dyn Pool, name: &str, layer: &[Region]) -> Figure {
    let layer_bytes: usize = layer.iter().map(|region| region.tiles * region.bytes).sum();
    let token_bytes = LAYERS * layer_bytes;
    let copies = BEYOND_CACHES.div_ceil(token_bytes);
    let weights = vec![1u64; copies * token_bytes / 8];
    let token = |index: usize| {
        let start = Instant::now();
        let mut from = index % copies * token_bytes;
        for region in std::iter::repeat_n(layer, LAYERS).flatten() {
            region.read(pool, &weights, from);
            from += region.tiles * region.bytes;
        }
        start.elapsed().as_secs_f64()
    };
    warm_up(pool);
    let start = Instant::now();
    let mut times: Vec<f64> = Vec::new();
    while times.len() < TOKENS || start.elapsed() < MEASURED {
        times.push(token(times.len()));
    }
    times.sort_by(f64::total_cmp);
    Figure {
        work: format!("{} loops, {name}", LAYERS * layer.len()),
        unit: "tokens/s",
        value: 1.0 / times[times.len() / 2],
        bytes: token_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use filigree_kernels::SerialPool;

    #[test]
    fn a_step_of_smollm2_reads_its_matmuls() {
        let weights = 30 * (2 * 576 * 576 + 2 * 192 * 576 + 3 * 1536 * 576);
        let figure = decode(&SerialPool, "", &LAYER);
        assert_eq!(figure.bytes, weights / 32 * 20);
        assert!(figure.work.starts_with("210 loops"));
    }

    #[test]
    fn tiles_are_whole_words() {
        assert_eq!(TILE % 8, 0);
        assert!(LAYER.iter().all(|region| region.bytes % 8 == 0));
    }
}
