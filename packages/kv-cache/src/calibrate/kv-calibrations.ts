import type { Calibration } from '@filigree/sparse-attention';
import { formatKvPlan } from '../compress/kv-plan.js';
import { calibrateCompressKv } from './compress-kv.js';
import { calibrateDuoAttention } from './duo-attention.js';
import { calibrateRazorAttention } from './razor-attention.js';
import type { CalibratedKvModel } from './recall-text.js';

/** Every calibration of a method of the cache: its id is the method's that takes the plan. */
export const kvCalibrations: readonly Calibration<CalibratedKvModel>[] = /* @__PURE__ */ Object.freeze([
  {
    id: 'duo-attention',
    title: 'DuoAttention: what a head loses by streaming, where passkeys are repeated',
    result: 'kv-plan',
    stages: 1,
    run: async (model, texts, { stores: [store], ...options }) =>
      formatKvPlan(await calibrateDuoAttention(model, texts, { ...options, store })),
  },
  {
    id: 'razor-attention',
    title: 'RazorAttention: induction and echo of every head, on random tokens as long as the texts',
    result: 'kv-plan',
    stages: 1,
    run: async (model, texts, { stores: [store], ...options }) => {
      const lengths = texts.map(({ length }) => length);
      return formatKvPlan(await calibrateRazorAttention(model, lengths, { ...options, store }));
    },
  },
  {
    id: 'compress-kv',
    title: 'CompressKV: attention of every head to a passkey that is repeated, and the error of every layer',
    result: 'kv-plan',
    stages: 2,
    run: async (model, texts, { stores: [store, secondStore], ...options }) =>
      formatKvPlan(await calibrateCompressKv(model, texts, { ...options, store, secondStore })),
  },
] satisfies Calibration<CalibratedKvModel>[]);
