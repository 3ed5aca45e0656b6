import type { Roofline } from './measure/roofline.js';

/** Units, and whether more or less of them is better. */
const better = {
  'tokens/s': 'more',
  'GB/s': 'more',
  'GOP/s': 'more',
  ms: 'less',
  µs: 'less',
  MiB: 'less',
  bytes: 'less',
} as const;
export type Unit = keyof typeof better;

export interface Rounds {
  readonly ours: readonly number[];
  readonly peer: readonly number[];
}

/** One line of a benchmark: ours beside a peer that did the same work in the same run. */
export interface BenchRecord {
  readonly suite: string;
  /** Works that are shown on one scale: "decode", "memory". */
  readonly group: string;
  readonly work: string;
  /** Tokens in the cache before the work, where that is what varies. */
  readonly context: number | null;
  readonly ours: number;
  /** Which of our ways it is. */
  readonly oursName: string;
  readonly unit: Unit;
  /** What it is compared with: another program, ourselves done differently, or a limit. */
  readonly peer: number | null;
  readonly peerName: string | null;
  /** What the medians were taken of, round by round: a wide spread says that something else was running. */
  readonly rounds: Rounds | null;
  /** More than 1: ours is faster or smaller. */
  readonly ratio: number | null;
  /** The ratio asked for. */
  readonly goal: number | null;
  /** What this machine allows at most, measured in the same run, in `unit`. */
  readonly bound: number | null;
  /** The share of the bound that ours reaches. */
  readonly boundRatio: number | null;
  /** The share of the bound asked for. */
  readonly boundGoal: number | null;
  /** What the machine could do before, between and after the rounds of this work; `bound` is made from the medians. */
  readonly ceilings: readonly Roofline[] | null;
  /** CPU path, threads and processor, or where the work ran otherwise. */
  readonly cpu: string;
}

export interface Measurement {
  readonly suite: string;
  /** Default: the unit. */
  readonly group?: string | undefined;
  readonly work: string;
  readonly context?: number | undefined;
  readonly ours: number;
  /** Default: "ours". */
  readonly oursName?: string | undefined;
  readonly unit: Unit;
  readonly peer?: { readonly name: string; readonly value: number } | undefined;
  readonly rounds?: Rounds | undefined;
  readonly goal?: number | undefined;
  readonly bound?: number | undefined;
  readonly boundGoal?: number | undefined;
  readonly ceilings?: readonly Roofline[] | undefined;
  readonly cpu: string;
}

/** Adds the ratios to a measurement. */
export function benchRecord(measured: Measurement): BenchRecord {
  const { suite, work, ours, unit, peer, bound, cpu } = measured;
  return {
    suite,
    group: measured.group ?? unit,
    work,
    context: measured.context ?? null,
    ours,
    oursName: measured.oursName ?? 'ours',
    unit,
    peer: peer?.value ?? null,
    peerName: peer?.name ?? null,
    ratio: peer ? ratioOf(unit, ours, peer.value) : null,
    rounds: measured.rounds ?? null,
    goal: measured.goal ?? null,
    bound: bound ?? null,
    boundRatio: bound === undefined ? null : ratioOf(unit, ours, bound),
    boundGoal: measured.boundGoal ?? null,
    ceilings: measured.ceilings ?? null,
    cpu,
  };
}

/** Which way is better, where bars are read without a ratio beside them. */
export function betterDirection(unit: Unit): 'more' | 'less' {
  return better[unit];
}

/** How much better `ours` is than `peer`; nothing left against nothing left is 1. */
export function ratioOf(unit: Unit, ours: number, peer: number): number {
  if (ours === peer) return 1;
  return better[unit] === 'more' ? ours / peer : peer / ours;
}

/** What a record was asked for and did not reach, in words. */
export function missedGoals({ work, ratio, goal, peerName, boundRatio, boundGoal }: BenchRecord): string[] {
  const missed = (reached: number | null, wanted: number | null): boolean =>
    wanted !== null && (reached === null || !(reached >= wanted));
  const shown = (value: number | null): string => value?.toFixed(2) ?? 'nothing';
  return [
    ...(missed(ratio, goal) ? [`${work} against ${peerName ?? 'nothing'}, ${shown(ratio)} of ${shown(goal)}`] : []),
    ...(missed(boundRatio, boundGoal) ? [`${work} against its bound, ${shown(boundRatio)} of ${shown(boundGoal)}`] : []),
  ];
}
