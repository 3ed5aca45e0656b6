import { OptionError } from '@filigree/core-tensor';
import { headPlanVersion, type HeadChoice, type HeadPlan } from '../head-plan.js';
import { calibratedLayers, type CalibratedModel } from './calibrated-model.js';
import { chooseWithin } from './choose.js';
import { headFigures, type HeadFigures } from './head-figures.js';
import { runCalibration, type CalibrationOptions, type Calibrator, type Json } from './run-calibration.js';

/**
 * What a plan must keep to.
 *
 * - `density`: mean visible share of the causal cells over all heads, in each of the texts; within it the least loss is sought.
 * - `mass`: least share of true attention mass of a head; the cheapest candidate that has it is taken.
 * - `error`: most relative L1 error of a head's output; `rowError`: most L1 error per row. Likewise.
 * - `best: 'mass'`: no bound; of each head, the candidate with the most mass. For candidates of about the same cost.
 */
export type CalibrationBudget =
  | { readonly density: number }
  | { readonly mass: number }
  | { readonly error: number }
  | { readonly rowError: number }
  | { readonly best: 'mass' };

export interface CalibrateOptions extends CalibrationOptions {
  /** What a head may do. `dense` is a method too, and the choice where no candidate keeps a bound. */
  readonly candidates: readonly HeadChoice[];
  readonly budget: CalibrationBudget;
  /** First row that counts in the mass; early rows see all their keys whatever the method. Default 0. */
  readonly fromRow?: number | undefined;
  /** What a density budget keeps small. Default `mass` lost. */
  readonly loss?: 'mass' | 'error' | undefined;
  /** Among candidates that keep a bound: the one of least density (default), or the first. */
  readonly prefer?: 'cheapest' | 'first' | undefined;
  /** Candidates that a head may take; default all. Others are not run. */
  readonly allow?: ((layer: number, head: number) => (candidate: HeadChoice) => boolean) | undefined;
  /** Name of the model, for the plan. */
  readonly name?: string | undefined;
}

const dense: HeadChoice = { method: 'dense', options: {} };

/**
 * Finds a method for every head of every layer: all candidates run on the queries, keys and values that the model has over the texts, beside dense
 * attention, and each head gets what the budget says. Deterministic, and resumed from a store.
 *
 * @throws OptionError when there are no candidates, a candidate or the budget is wrong, or no choice keeps a density; AbortError.
 */
export async function calibrate(
  model: CalibratedModel,
  texts: readonly (readonly number[])[],
  {
    candidates,
    budget,
    fromRow = 0,
    loss = 'mass',
    prefer = 'cheapest',
    allow,
    name = 'unnamed',
    ...options
  }: CalibrateOptions,
): Promise<HeadPlan> {
  if (candidates.length === 0) throw new OptionError('calibrate: there are no candidates');
  for (const [bound, value] of Object.entries(budget)) {
    if (bound !== 'best' && !(Number(value) > 0))
      throw new OptionError(`calibrate: the budget's ${bound} is ${value}, it must be more than 0`);
  }
  const { heads, kvHeads } = model.config;
  const allowed = (layer: number): boolean[][] =>
    Array.from({ length: heads }, (_, head) => candidates.map((candidate) => allow?.(layer, head)(candidate) ?? true));
  const calibrator: Calibrator<Figures, HeadPlan> = {
    id: 'heads',
    settings: {
      candidates: candidates.map(({ method, options }) => ({ method, options: { ...options } })),
      fromRow,
      allowed: allow ? calibratedLayers(model).map((layer) => allowed(layer)) : null,
    },
    async observe(sample) {
      const byHead = allowed(sample.layer);
      const run = candidates.filter((_, index) => byHead.some((allows) => allows[index]));
      const figures = await headFigures(sample, run, fromRow);
      return candidates.map((candidate) => (run.includes(candidate) ? { ...figures[run.indexOf(candidate)] } : null));
    },
    finish(figures, layers) {
      const all = layers.flatMap((layer, at) =>
        allowed(layer).map((allows, head) =>
          headCandidates(
            figures.map((text) => text[at]),
            head,
            allows,
          ),
        ),
      );
      const picks = chooseAll(all, budget, { loss, prefer });
      const chosen = picks.map((pick) => (pick ? candidates[pick.index] : dense));
      return {
        version: headPlanVersion,
        model: { name, layers: model.config.layers, heads, kvHeads },
        calibration: { ...describe(budget), texts: texts.length, ...meanFigures(picks) },
        layers: Array.from({ length: model.config.layers }, (_, layer) => {
          const at = layers.indexOf(layer) * heads;
          return { heads: at < 0 ? Array<HeadChoice>(heads).fill(dense) : chosen.slice(at, at + heads) };
        }),
      };
    },
  };
  return runCalibration(model, texts, calibrator, options);
}

/** Of each candidate, the figures by head; null where no head may take it. */
type Figures = readonly ({ readonly [K in keyof HeadFigures]: readonly number[] } | null)[] & Json;

/** A candidate of one head: mean figures over the texts, and the density in each of them. */
interface Candidate {
  readonly index: number;
  readonly density: number;
  readonly densities: readonly number[];
  readonly mass: number;
  readonly error: number;
  readonly rowError: number;
}

/** The candidates a head may take, from the figures of its layer over every text. */
function headCandidates(texts: readonly Figures[], head: number, allows: readonly boolean[]): Candidate[] {
  return [...allows.keys()]
    .filter((index) => allows[index])
    .map((index) => {
      const of = (name: keyof HeadFigures): number[] => texts.map((candidates) => candidates[index]?.[name][head] ?? NaN);
      const densities = of('density');
      const means = {
        density: mean(densities),
        mass: mean(of('mass')),
        error: mean(of('error')),
        rowError: mean(of('rowError')),
      };
      return { index, densities, ...means };
    });
}

/** The choice of every head; undefined: dense, as no candidate keeps the bound. */
function chooseAll(
  heads: readonly (readonly Candidate[])[],
  budget: CalibrationBudget,
  { loss, prefer }: { readonly loss: 'mass' | 'error'; readonly prefer: 'cheapest' | 'first' },
): (Candidate | undefined)[] {
  if ('density' in budget) {
    const lossOf = (candidate: Candidate): number => (loss === 'mass' ? 1 - candidate.mass : candidate.error);
    const choosable = heads.map((all) => all.map((candidate) => ({ loss: lossOf(candidate), costs: candidate.densities })));
    const limits = heads[0][0].densities.map(() => budget.density);
    return chooseWithin(choosable, limits).map((pick, head) => heads[head][pick]);
  }
  if ('best' in budget) return heads.map((all) => first(all, (a, b) => b.mass - a.mass || a.density - b.density));
  const keeps = (candidate: Candidate): boolean => {
    if ('mass' in budget) return candidate.mass >= budget.mass;
    return 'error' in budget ? candidate.error <= budget.error : candidate.rowError <= budget.rowError;
  };
  const order = (a: Candidate, b: Candidate): number => (prefer === 'first' ? 0 : a.density - b.density || b.mass - a.mass);
  return heads.map((all) => first(all.filter(keeps), order));
}

/** The first by an order; among equals the earlier one. */
function first(candidates: readonly Candidate[], order: (a: Candidate, b: Candidate) => number): Candidate | undefined {
  return [...candidates].sort((a, b) => order(a, b) || a.index - b.index)[0];
}

function meanFigures(picks: readonly (Candidate | undefined)[]): Record<string, number> {
  const whole = { density: 1, mass: 1, error: 0, rowError: 0 };
  const round = (value: number): number => Number(value.toPrecision(6));
  const over = (name: keyof typeof whole): number => round(mean(picks.map((pick) => (pick ?? whole)[name])));
  return { density: over('density'), mass: over('mass'), error: over('error'), rowError: over('rowError') };
}

function describe(budget: CalibrationBudget): Record<string, number | string> {
  return Object.fromEntries(Object.entries(budget).map(([bound, value]) => [`budget.${bound}`, value as number | string]));
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
