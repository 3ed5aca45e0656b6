import { createNativeBackend } from '@filigree/backend-native';
import { AbortError, OptionError, type Backend } from '@filigree/core-tensor';
import {
  calibrateCompressKv,
  calibrateDuoAttention,
  calibrateRazorAttention,
  formatKvPlan,
  kvCalibrations,
  kvMethod,
  kvMethods,
  parseKvPlan,
  razorPlan,
  recallText,
} from '@filigree/kv-cache';
import type { CalibrationProgress } from '@filigree/sparse-attention';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TokenModel } from './support/token-model.js';

const filler = Array.from({ length: 400 }, (_, index) => index);
const short = { passkeys: 2, words: 6, sinks: 4, recent: 16 };

describe('calibrations of heads', () => {
  let backend: Backend;

  beforeAll(() => {
    backend = createNativeBackend({ threads: 1, fallback: 'error' });
  });

  afterAll(() => {
    backend.dispose();
  });

  it('plant passkeys in a text that keeps its length, and ask for all of them', () => {
    const model = new TokenModel(backend, [['echo']]);
    const { tokens, recalls } = recallText(model, filler, { passkeys: 3, words: 7, seed: 4 });
    expect(tokens).toHaveLength(filler.length);
    expect(recalls).toHaveLength(3);
    for (const { needle, rows } of recalls) {
      expect(needle.end - needle.start).toBe(7);
      expect(tokens.slice(rows.start + 1, rows.end + 1)).toEqual(tokens.slice(needle.start, needle.end));
      expect(needle.end).toBeLessThan(Math.min(...recalls.map(({ rows: { start } }) => start)));
    }
    expect(recallText(model, filler, { passkeys: 3, words: 7, seed: 4 }).tokens).toEqual(tokens);
    expect(recallText(model, filler, { passkeys: 3, words: 7, seed: 5 }).tokens).not.toEqual(tokens);
    expect(() => recallText(model, filler.slice(0, 40), { passkeys: 3, words: 7, seed: 4 })).toThrow(
      /too short for 3 passkeys/,
    );
    expect(() => recallText(model, filler, { passkeys: 0, words: 7, seed: 4 })).toThrow(OptionError);
  });

  it('RazorAttention flags just the heads that copy, and those that echo', async () => {
    const kinds = [
      ['previous', 'induction'],
      ['echo', 'previous'],
      ['previous', 'previous'],
    ] as const;
    const model = new TokenModel(backend, kinds, [1, 0.1]);
    const plan = await calibrateRazorAttention(model, [240]);
    const dense = (induction: number, echo: number): boolean[] =>
      razorPlan(plan, { induction, echo }).layers.flatMap(({ heads }) => heads.map(({ method }) => method === 'dense'));
    const both = [false, false, true, true];
    const none = [false, false, false, false];
    // One of six heads by each.
    expect(dense(1 / 6, 0)).toEqual([...both, ...none, ...none]);
    expect(dense(0, 0.1)).toEqual([...none, true, true, false, false, ...none]);
    expect(dense(0, 0)).not.toContain(true);
    expect(dense(1, 0)).not.toContain(false);
    // The query head that means it, not its neighbour. What was said more than once before shares its attention.
    expect(plan.figures['induction'][0][2]).toBeGreaterThan(0.95 * ((1 + 1 / 2 + 1 / 3) / 3));
    expect(plan.figures['induction'][0][3]).toBeLessThan(0.1);
    expect(plan.figures['induction'][1][0]).toBeLessThan(0.1);
    await expect(calibrateRazorAttention(model, [6])).rejects.toThrow(/6 tokens are too few/);
    await expect(calibrateRazorAttention(model, [240], { repeats: 1 })).rejects.toThrow(/repeats is 1/);
  });

  it('DuoAttention gives heads that retrieve large gates, and heads that look back a step none', async () => {
    const model = new TokenModel(
      backend,
      [
        ['previous', 'induction'],
        ['induction', 'previous'],
      ],
      [0.1, 1],
    );
    const { figures } = await calibrateDuoAttention(model, [filler, filler.map((id) => id + 50)], short);
    const [[first, second], [third, fourth]] = figures['gates'];
    for (const gate of [second, third]) expect(gate).toBeGreaterThan(0.9);
    // The quiet query head of the group looks everywhere a little.
    const quiet = await calibrateDuoAttention(new TokenModel(backend, [['previous']], [1]), [filler], short);
    expect(quiet.figures['gates'][0][0]).toBeLessThan(0.01);
    for (const gate of [first, fourth]) expect(gate).toBeLessThan(Math.min(second, third));
  });

  it('CompressKV finds the heads that look at the passkey, and the layer that needs them', async () => {
    const model = new TokenModel(
      backend,
      [
        ['previous', 'induction'],
        ['previous', 'previous'],
      ],
      [1, 0.1],
    );
    const { figures } = await calibrateCompressKv(model, [filler], { words: 12, heads: 1, budget: 20 });
    expect(figures['retrieval'][0].indexOf(Math.max(...figures['retrieval'][0]))).toBe(2);
    expect(figures['retrieval'][0][2]).toBeGreaterThan(0.5);
    expect(figures['retrieval'][1].every((mass) => mass < 0.2)).toBe(true);
    for (const [error] of figures['error']) expect(error).toBeGreaterThan(0);
    const whole = await calibrateCompressKv(model, [filler], { words: 12, heads: 1, budget: 400 });
    for (const [error] of whole.figures['error']) expect(error).toBeLessThan(1e-5);
  });

  it('leave layers with a window of their own without figures', async () => {
    const model = new TokenModel(
      backend,
      [
        ['induction', 'induction'],
        ['previous', 'induction'],
      ],
      [1],
      [64, 0],
    );
    const { figures } = await calibrateDuoAttention(model, [filler], short);
    expect(figures['gates'].map(({ length }) => length)).toEqual([0, 2]);
    const compressor = kvMethod('duo-attention').create(
      { sparsity: 0.5, sinks: 1, recent: 3 },
      await calibrateDuoAttention(model, [filler], short),
    );
    expect(compressor.budget(100, 1, 2)).toBe(52);
  });

  it.each(kvCalibrations.map((calibration) => [calibration.id, calibration] as const))(
    '%s makes a plan that its method takes, and goes on where it was interrupted',
    async (id, calibration) => {
      const model = new TokenModel(backend, [
        ['previous', 'induction'],
        ['echo', 'previous'],
      ]);
      const texts = [Array.from({ length: 700 }, (_, index) => index % 500)];
      const stores = Array.from({ length: calibration.stages }, () => {
        const store = {
          progress: undefined as CalibrationProgress | undefined,
          load: () => Promise.resolve(store.progress),
          save: (progress: CalibrationProgress) => {
            store.progress = JSON.parse(JSON.stringify(progress)) as CalibrationProgress;
            return Promise.resolve();
          },
        };
        return store;
      });
      const options = { name: 'tokens', bound: 0, stores };
      const controller = new AbortController();
      const interrupted = calibration.run(model, texts, {
        ...options,
        signal: controller.signal,
        onProgress: () => {
          controller.abort();
        },
      });
      await expect(interrupted).rejects.toThrow(AbortError);
      const json = await calibration.run(model, texts, options);
      expect(json).toBe(await calibration.run(model, texts, { ...options, stores: [] }));
      const plan = parseKvPlan(json, { layers: 2, heads: 2, kvHeads: 2 });
      expect(formatKvPlan(plan)).toBe(json);
      expect(kvMethod(id).create({}, plan).id).toBe(id);
      expect(plan.calibration['method']).toBe(id);
    },
  );

  it('exist for every method that needs a plan', () => {
    expect(kvCalibrations.map(({ id }) => id).sort()).toEqual(
      kvMethods.flatMap(({ id, planned }) => (planned ? [id] : [])).sort(),
    );
  });
});
