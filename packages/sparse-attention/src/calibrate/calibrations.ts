import { formatHeadPlan } from '../head-plan.js';
import { calibrateChannels } from './calibrate-channels.js';
import type { CalibratedModel } from './calibrated-model.js';
import type { CalibrationOptions } from './run-calibration.js';
import { autotuneSparge, calibrateSale, profileXAttention, searchMInference, searchMoA } from './searches.js';
import { calibrateSkipSoftmax } from './skip-softmax.js';

/** A calibration by name: what a command line offers. */
export interface Calibration<Model extends CalibratedModel = CalibratedModel> {
  readonly id: string;
  readonly title: string;
  /** What the one number that it takes bounds, and its default; without it the calibration takes none. */
  readonly bound?: { readonly name: string; readonly value: number } | undefined;
  /** `head-plan`: what `parseHeadPlan` reads; `kv-plan`: what a method of the cache takes as its plan; `options`: options of a method, as JSON. */
  readonly result: 'head-plan' | 'kv-plan' | 'options';
  /** Steps whose progress is kept apart. */
  readonly stages: number;
  /** JSON text of the result. `stores[stage]` keeps the progress of a stage. */
  run(
    model: Model,
    texts: readonly (readonly number[])[],
    options: Omit<CalibrationOptions, 'store'> & {
      readonly name: string;
      readonly bound: number;
      readonly stores: readonly (CalibrationOptions['store'] | undefined)[];
    },
  ): Promise<string>;
}

const json = (value: object): string => `${JSON.stringify(value, null, 1)}\n`;

/** Every calibration. */
export const calibrations: readonly Calibration[] = /* @__PURE__ */ Object.freeze([
  {
    id: 'minference',
    title: 'MInference: the kind of every head, by attention mass',
    result: 'head-plan',
    stages: 1,
    run: async (model, texts, { stores: [store], ...options }) =>
      formatHeadPlan(await searchMInference(model, texts, { ...options, store })),
  },
  {
    id: 'x-attention',
    title: 'XAttention: the threshold of every head that keeps a recall',
    bound: { name: 'recall', value: 0.9 },
    result: 'head-plan',
    stages: 1,
    run: async (model, texts, { stores: [store], bound, ...options }) =>
      formatHeadPlan(await profileXAttention(model, texts, { ...options, store, recall: bound })),
  },
  {
    id: 'sale',
    title: 'SALE: the threshold of every head, by output error a row',
    bound: { name: 'error', value: 0.4 },
    result: 'head-plan',
    stages: 1,
    run: async (model, texts, { stores: [store], bound, ...options }) =>
      formatHeadPlan(await calibrateSale(model, texts, { ...options, store, error: bound })),
  },
  {
    id: 'sparge',
    title: 'SpargeAttn: similarity, mass and skip value of every head, by relative L1',
    bound: { name: 'l1', value: 0.07 },
    result: 'head-plan',
    stages: 2,
    run: async (model, texts, { stores: [store, secondStore], bound, ...options }) =>
      formatHeadPlan(await autotuneSparge(model, texts, { ...options, store, secondStore, l1: bound, pvL1: (bound * 8) / 7 })),
  },
  {
    id: 'moa',
    title: 'MoA: an elastic window for every head within a mean density',
    bound: { name: 'density', value: 0.5 },
    result: 'head-plan',
    stages: 1,
    run: async (model, texts, { stores: [store], bound, ...options }) =>
      formatHeadPlan(await searchMoA(model, texts, { ...options, store, density: bound })),
  },
  {
    id: 'skip-softmax',
    title: 'Skip softmax: a and b of the scale that a target sparsity takes, per phase',
    result: 'options',
    stages: 1,
    run: async (model, texts, { stores: [store], ...options }) =>
      json(await calibrateSkipSoftmax(model, texts, { ...options, store })),
  },
  {
    id: 'double-sparsity',
    title: 'Double Sparsity: the channels of every key-value head that stand for a key',
    result: 'options',
    stages: 1,
    run: async (model, texts, { stores: [store], ...options }) =>
      json(await calibrateChannels(model, texts, { ...options, store })),
  },
] satisfies Calibration[]);
