/** Units, and whether more or less of them is better. */
const better = { 'tokens/s': 'more', 'GB/s': 'more', 'GOP/s': 'more', ms: 'less', MiB: 'less', bytes: 'less' } as const;
export type Unit = keyof typeof better;

/** One line of a benchmark: ours beside a peer that did the same work in the same run. */
export interface BenchRecord {
  readonly suite: string;
  readonly work: string;
  readonly ours: number;
  readonly unit: Unit;
  /** What it is compared with: another program, ourselves done differently, or a limit. */
  readonly peer: number | null;
  readonly peerName: string | null;
  /** More than 1: ours is faster or smaller. */
  readonly ratio: number | null;
  /** The ratio asked for. */
  readonly goal: number | null;
  /** What this machine allows at most, measured in the same run, in `unit`. */
  readonly bound: number | null;
  /** ours / bound. */
  readonly boundRatio: number | null;
  /** CPU path, threads and processor, or where the work ran otherwise. */
  readonly cpu: string;
}

export interface Measurement {
  readonly suite: string;
  readonly work: string;
  readonly ours: number;
  readonly unit: Unit;
  readonly peer?: { readonly name: string; readonly value: number } | undefined;
  readonly goal?: number | undefined;
  readonly bound?: number | undefined;
  readonly cpu: string;
}

/** Adds the ratios to a measurement. */
export function benchRecord({ peer, goal, bound, ...measured }: Measurement): BenchRecord {
  return {
    ...measured,
    peer: peer?.value ?? null,
    peerName: peer?.name ?? null,
    ratio: peer ? ratioOf(measured.unit, measured.ours, peer.value) : null,
    goal: goal ?? null,
    bound: bound ?? null,
    boundRatio: bound === undefined ? null : measured.ours / bound,
  };
}

/** How much better `ours` is than `peer`; nothing left against nothing left is 1. */
export function ratioOf(unit: Unit, ours: number, peer: number): number {
  if (ours === peer) return 1;
  return better[unit] === 'more' ? ours / peer : peer / ours;
}

/** True when a goal was set and missed. */
export function belowGoal({ ratio, goal }: BenchRecord): boolean {
  return goal !== null && (ratio === null || !(ratio >= goal));
}
