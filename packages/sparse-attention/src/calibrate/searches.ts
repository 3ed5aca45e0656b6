import { OptionError } from '@filigree/core-tensor';
import type { HeadChoice, HeadPlan } from '../head-plan.js';
import { calibrate } from './calibrate.js';
import type { CalibratedModel } from './calibrated-model.js';
import type { CalibrationOptions, CalibrationStore } from './run-calibration.js';

type Texts = readonly (readonly number[])[];

export interface SearchOptions extends CalibrationOptions {
  /** Name of the model, for the plan. */
  readonly name?: string | undefined;
}

const minference = (vertical: number, slash: number): HeadChoice => ({ method: 'minference', options: { vertical, slash } });

/** The kinds of heads that MInference tells apart, with the budgets it tries. */
export const minferenceGrid: readonly HeadChoice[] = /* @__PURE__ */ Object.freeze([
  { method: 'a-shape', options: { sinks: 100, window: 800 } },
  minference(30, 800),
  minference(100, 750),
  minference(500, 700),
  minference(3500, 100),
  { method: 'block-top-k', options: { block: 64, topK: 100 } },
]);

/**
 * MInference's offline search: of every head, the kind that keeps most of the attention mass of the rows from 2,500 on (or of the second half of
 * shorter texts). All kinds cost about the same at the lengths it is meant for; at shorter ones give a grid that is.
 * Jiang et al., "MInference 1.0", arXiv:2407.02490.
 */
export function searchMInference(
  model: CalibratedModel,
  texts: Texts,
  { candidates = minferenceGrid, ...options }: SearchOptions & { readonly candidates?: readonly HeadChoice[] } = {},
): Promise<HeadPlan> {
  const shortest = Math.min(...texts.map(({ length }) => length));
  const fromRow = Math.min(2500, Math.floor(shortest / 2));
  return calibrate(model, texts, { ...options, candidates, fromRow, budget: { best: 'mass' } });
}

/**
 * XAttention's thresholds: of every head, the lowest whose blocks hold `recall` of the true attention mass.
 * Xu et al., arXiv:2503.16428.
 */
export function profileXAttention(
  model: CalibratedModel,
  texts: Texts,
  {
    recall = 0.9,
    stride = 16,
    block = 128,
    ...options
  }: SearchOptions & { recall?: number; stride?: number; block?: number } = {},
): Promise<HeadPlan> {
  const thresholds = [0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.96, 0.98, 0.99];
  const candidates = thresholds.map((threshold) => ({ method: 'x-attention', options: { stride, block, threshold } }));
  return calibrate(model, texts, { ...options, candidates, budget: { mass: recall } });
}

/**
 * SALE's thresholds: from 0.008 halved until a head's output is off by less than `error` a row; a head that would fall below 1e-4 is dense.
 * arXiv:2505.24179.
 */
export function calibrateSale(
  model: CalibratedModel,
  texts: Texts,
  { error = 0.4, ...options }: SearchOptions & { readonly error?: number } = {},
): Promise<HeadPlan> {
  const candidates: HeadChoice[] = [];
  for (let threshold = 0.008; threshold >= 1e-4; threshold /= 2) candidates.push({ method: 'sale', options: { threshold } });
  return calibrate(model, texts, { ...options, candidates, budget: { rowError: error } });
}

/**
 * SpargeAttn's tuning, over a grid: of every head, the cheapest pair of similarity and cumulative mass whose output is off by at most `l1` (relative L1);
 * then, with that, the smallest skip value whose output is off by at most `pvL1`.
 * Zhang et al., arXiv:2502.18137; its authors bisect the cumulative mass per similarity instead.
 */
export async function autotuneSparge(
  model: CalibratedModel,
  texts: Texts,
  {
    l1 = 0.07,
    pvL1 = 0.08,
    secondStore,
    ...options
  }: SearchOptions & { readonly l1?: number; readonly pvL1?: number; readonly secondStore?: CalibrationStore | undefined } = {},
): Promise<HeadPlan> {
  if (!(pvL1 >= l1)) throw new OptionError(`autotuneSparge: pvL1 is ${pvL1}, it must be at least l1, ${l1}`);
  const blocks = [-1, 0, 0.3, 0.6, 0.8].flatMap((simThreshold) =>
    [0.5, 0.7, 0.8, 0.9, 0.95, 0.98].map((cdf) => ({ method: 'sparge', options: { simThreshold, cdf, pvSkip: 0 } })),
  );
  const first = await calibrate(model, texts, { ...options, candidates: blocks, budget: { error: l1 } });
  const same = (a: HeadChoice, b: HeadChoice): boolean =>
    a.method === b.method && a.options['simThreshold'] === b.options['simThreshold'] && a.options['cdf'] === b.options['cdf'];
  const skipping = [2, 4, 6, 9, 13, 20, 35].flatMap((pvSkip) =>
    blocks.map(({ method, options }) => ({ method, options: { ...options, pvSkip } })),
  );
  return calibrate(model, texts, {
    ...options,
    store: secondStore,
    candidates: [...skipping, ...blocks],
    budget: { error: pvL1 },
    prefer: 'first',
    allow: (layer, head) => (candidate) => same(candidate, first.layers[layer].heads[head]),
  });
}

export interface MoaOptions extends SearchOptions {
  /** Mean density over all heads, at the length of every text. Default 0.5. */
  readonly density?: number | undefined;
  readonly block?: number | undefined;
}

/**
 * MoA's elastic windows: of every head an α and a β, such that the error of the heads' outputs is least while the mean density keeps the budget at the length of every
 * text. Texts of several lengths make windows that grow with the prompt.
 *
 * Its authors weigh a head's cells by the gradient of the loss; here a head's own relative output error stands for it, which takes no backward pass and
 * leaves out how much later layers care. Fu et al., arXiv:2406.14909.
 */
export function searchMoA(
  model: CalibratedModel,
  texts: Texts,
  { density = 0.5, block = 64, ...options }: MoaOptions = {},
): Promise<HeadPlan> {
  const lengths = texts.map(({ length }) => length);
  const candidates = moaCandidates(lengths, block);
  return calibrate(model, texts, { ...options, candidates, budget: { density }, loss: 'error' });
}

/** α from −1024 to the longest text in steps of 1,024, β in nine steps; of those with the same spans at all lengths, the first. */
function moaCandidates(lengths: readonly number[], block: number): HeadChoice[] {
  const seen = new Set<string>();
  const candidates: HeadChoice[] = [];
  const longest = Math.max(...lengths);
  for (let alpha = -1024; alpha <= longest; alpha += 1024) {
    for (let eighth = 0; eighth <= 8; eighth++) {
      const beta = eighth / 8;
      const spans = lengths.map((length) => {
        const most = Math.ceil(length / block);
        return Math.min(most, Math.max(1, Math.round((alpha + beta * length) / block)));
      });
      if (seen.has(spans.join())) continue;
      seen.add(spans.join());
      candidates.push({ method: 'moa-window', options: { alpha, beta, block } });
    }
  }
  return candidates;
}
