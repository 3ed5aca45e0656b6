import { OptionError } from '@filigree/core-tensor';

/** A candidate of one head: what it loses, and what it costs under every constraint. */
export interface Choosable {
  readonly loss: number;
  readonly costs: readonly number[];
}

interface State {
  readonly loss: number;
  readonly costs: readonly number[];
  readonly pick: number;
  readonly before: State | undefined;
}

/** States beyond which choices that cost about the same are thinned out. */
const exactStates = 4096;
/** Steps of every cost when they are. */
const steps = 1024;

/**
 * One candidate per head with the least total loss whose mean cost keeps every limit: a multiple-choice knapsack, solved by extending the Pareto set
 * of partial choices head by head. Exact while a step has at most 4,096 of them; beyond that, members of about equal cost are thinned to the
 * one with the least loss. Ties go to the earlier candidate.
 *
 * @returns the index of a candidate for every head.
 * @throws OptionError when the cheapest candidates do not keep the limits.
 */
export function chooseWithin(heads: readonly (readonly Choosable[])[], limits: readonly number[]): number[] {
  const totals = limits.map((limit) => limit * heads.length * (1 + 1e-9));
  const least = leastCosts(heads, limits.length);
  let states: State[] = [{ loss: 0, costs: limits.map(() => 0), pick: -1, before: undefined }];
  for (const [head, candidates] of heads.entries()) {
    const room = totals.map((total, index) => total - least[head + 1][index]);
    const extended = states.flatMap((before) =>
      candidates.map(({ loss, costs }, pick): State => {
        const sums = costs.map((cost, index) => before.costs[index] + cost);
        return { loss: before.loss + loss, costs: sums, pick, before };
      }),
    );
    const kept = extended.filter(({ costs }) => costs.every((cost, index) => cost <= room[index]));
    states = pareto(kept.length > exactStates ? thinned(kept, totals) : kept);
  }
  if (states.length === 0)
    throw new OptionError(
      `calibrate: no choice of candidates keeps the budget of ${limits.join(', ')}; give cheaper candidates or a larger budget`,
    );
  const picks: number[] = [];
  for (let state: State | undefined = states[0]; state?.before; state = state.before) picks.unshift(state.pick);
  return picks;
}

/** For every head, the least that it and all heads behind it cost. */
function leastCosts(heads: readonly (readonly Choosable[])[], constraints: number): number[][] {
  const sums = [Array.from({ length: constraints }, () => 0)];
  for (const candidates of [...heads].reverse()) {
    sums.unshift(sums[0].map((sum, index) => sum + Math.min(...candidates.map(({ costs }) => costs[index]))));
  }
  return sums;
}

/** States that no other one beats in loss and all costs, by ascending loss. */
function pareto(states: State[]): State[] {
  // Stable: among equals the earlier candidate stays.
  states.sort((a, b) => a.loss - b.loss || a.costs[0] - b.costs[0]);
  const kept: State[] = [];
  if (states[0]?.costs.length === 1) {
    let cheapest = Infinity;
    for (const state of states) {
      if (state.costs[0] >= cheapest) continue;
      cheapest = state.costs[0];
      kept.push(state);
    }
    return kept;
  }
  for (const state of states) {
    const beaten = kept.some(({ costs }) => costs.every((cost, index) => cost <= state.costs[index]));
    if (!beaten) kept.push(state);
  }
  return kept;
}

/** Of states whose costs lie in the same steps, the one of least loss. */
function thinned(states: readonly State[], totals: readonly number[]): State[] {
  const best = new Map<number, State>();
  for (const state of states) {
    // Several constraints share the steps, so that there are not too many states with any number of them.
    const each = Math.ceil(steps ** (1 / totals.length));
    const bucket = state.costs.reduce((at, cost, index) => at * (each + 1) + Math.floor((cost / totals[index]) * each), 0);
    const before = best.get(bucket);
    if (!before || state.loss < before.loss) best.set(bucket, state);
  }
  return [...best.values()];
}
