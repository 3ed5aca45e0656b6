import type { CachePolicy } from './cache-policy.js';
import { RankedPolicy } from './ranked-policy.js';

/** Items that are not held whose requests are remembered by default. */
const defaultHistory = 65_536;

export interface HistoryOptions {
  /** Items that are not held whose requests are remembered; default 65,536. The one asked for longest ago is forgotten first. */
  readonly history?: number | undefined;
}

export interface LecOptions extends HistoryOptions {
  /** What the probability of a request is estimated from: all requests so far (default), or an average that follows change. */
  readonly estimator?: 'count' | 'ema' | undefined;
  /** Of `ema`: weight of the newest request; default 0.001, an average over about 1,000 requests. */
  readonly weight?: number | undefined;
}

/** Least recently used goes first. */
export function lru<Id = number>(): CachePolicy<Id> {
  return new RankedPolicy<Id>({ name: 'lru', rank: () => 0 });
}

/** Least frequently used goes first; requests from before an item was held count. */
export function lfu<Id = number>({ history = defaultHistory }: HistoryOptions = {}): CachePolicy<Id> {
  return new RankedPolicy<Id>({ name: 'lfu', history, rank: ({ count }) => count });
}

/**
 * Greedy-Dual-Size with Frequency: what is dear to make again, small and asked for often stays. Priority `L + frequency · cost / bytes`; the clock `L` is the
 * priority of the last victim, so that what was popular once ages away. Frequencies count from when an item is held.
 *
 * Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy", HPL-98-69.
 */
export function gdsf<Id = number>(): CachePolicy<Id> {
  return new RankedPolicy<Id>({
    name: 'gdsf',
    ages: true,
    rank: ({ count }, { cost, bytes }, clock) => clock + (count * cost) / bytes,
  });
}

/**
 * Least expected cost: what goes first has the least product of the probability of a request and the cost of making it again. An item comes in only if it
 * exceeds what would go for it, so that a scan over many items leaves the cache alone.
 *
 * Zhu et al., "On Optimal Caching and Model Multiplexing for Large Model Inference", arXiv:2306.02003.
 */
export function lec<Id = number>(options: LecOptions = {}): CachePolicy<Id> {
  const { history = defaultHistory, estimator = 'count', weight = 0.001 } = options;
  return new RankedPolicy<Id>({
    name: 'lec',
    history,
    weight,
    admission: true,
    // Both order as the product does; averages come as logarithms.
    rank: ({ count, average }, { cost }) => (estimator === 'count' ? count * cost : average + Math.log(cost)),
  });
}
