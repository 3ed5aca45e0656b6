import { createNativeBackend } from '@filigree/backend-native';
import { AbortError, type Backend } from '@filigree/core-tensor';
import {
  calibrate,
  calibrateChannels,
  calibrateSkipSoftmax,
  formatHeadPlan,
  parseHeadPlan,
  searchMoA,
  type CalibrationProgress,
  type CalibrationStore,
} from '@filigree/sparse-attention';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { planted, type PlantedPrompt } from './support/planted.js';
import { PlantedModel } from './support/planted-model.js';

const length = 512;
const text = Array.from({ length }, () => 0);

/** Head 0 looks at the keys next to it, head 1 at keys far away: one key-value head each. */
function twoKinds(seed: number): PlantedPrompt {
  const slashes = { slashes: [0, 1, 2, 3], strength: 20 };
  return planted({
    seed,
    length,
    heads: 2,
    kvHeads: 2,
    noise: 0.4,
    plantings: [slashes, { slashes: [300, 301], strength: 20 }],
  });
}

const window = (size: number) => ({ method: 'streaming-llm', options: { sinks: 4, window: size } });

class MemoryStore implements CalibrationStore {
  progress: CalibrationProgress | undefined;
  saves = 0;

  load(): Promise<CalibrationProgress | undefined> {
    return Promise.resolve(this.progress);
  }

  save(progress: CalibrationProgress): Promise<void> {
    this.saves++;
    this.progress = JSON.parse(JSON.stringify(progress)) as CalibrationProgress;
    return Promise.resolve();
  }
}

describe('calibrate', () => {
  let backend: Backend;
  let model: PlantedModel;

  beforeAll(() => {
    backend = createNativeBackend({ fallback: 'error' });
    model = new PlantedModel(backend, [() => twoKinds(1), () => twoKinds(7)]);
  });

  afterAll(() => {
    backend.dispose();
  });

  it('gives local heads a short window and far-looking heads what reaches as far', async () => {
    const candidates = [window(16), window(64), window(400)];
    const plan = await calibrate(model, [text], { candidates, budget: { mass: 0.9 }, name: 'planted' });
    for (const { heads } of plan.layers) expect(heads).toEqual([candidates[0], candidates[2]]);
    expect(Number(plan.calibration['mass'])).toBeGreaterThan(0.9);
    expect(Number(plan.calibration['density'])).toBeLessThan(0.6);
    expect(parseHeadPlan(formatHeadPlan(plan), { layers: 2, heads: 2, kvHeads: 2 })).toEqual(plan);
  });

  it('makes a head dense when no candidate keeps the bound', async () => {
    const plan = await calibrate(model, [text], { candidates: [window(16)], budget: { error: 0.3 } });
    for (const { heads } of plan.layers) expect(heads.map(({ method }) => method)).toEqual(['streaming-llm', 'dense']);
  });

  it('spends a density where it helps', async () => {
    const candidates = [window(16), window(400)];
    const plan = await calibrate(model, [text], { candidates, budget: { density: 0.55 } });
    for (const { heads } of plan.layers) expect(heads).toEqual(candidates);
    await expect(calibrate(model, [text], { candidates, budget: { density: 0.01 } })).rejects.toThrow(/keeps the budget/);
  });

  it('leaves layers with a window of their own dense', async () => {
    const local = new PlantedModel(backend, [() => twoKinds(1), () => twoKinds(7)], [0, 64]);
    const plan = await calibrate(local, [text], { candidates: [window(16)], budget: { best: 'mass' } });
    expect(plan.layers.map(({ heads }) => heads[0].method)).toEqual(['streaming-llm', 'dense']);
  });

  it('goes on where it was interrupted, and ends as one that was not', async () => {
    const options = { candidates: [window(16), window(400)], budget: { mass: 0.9 } } as const;
    const whole = await calibrate(model, [text, text], options);
    const store = new MemoryStore();
    const controller = new AbortController();
    const interrupted = calibrate(model, [text, text], {
      ...options,
      store,
      signal: controller.signal,
      onProgress: (done) => {
        if (done === 1) controller.abort();
      },
    });
    await expect(interrupted).rejects.toThrow(AbortError);
    expect(store.saves).toBe(1);
    const seen: number[] = [];
    const resumed = await calibrate(model, [text, text], { ...options, store, onProgress: (done) => seen.push(done) });
    expect(seen).toEqual([2, 3, 4]);
    expect(resumed).toEqual(whole);
    const runs = model.runs;
    expect(await calibrate(model, [text, text], { ...options, store })).toEqual(whole);
    expect(model.runs).toBe(runs);
  });

  it('refuses progress of something else, and budgets that mean nothing', async () => {
    const store = new MemoryStore();
    await calibrate(model, [text], { candidates: [window(16)], budget: { mass: 0.9 }, store });
    const other = calibrate(model, [text], { candidates: [window(17)], budget: { mass: 0.9 }, store });
    await expect(other).rejects.toThrow(/belongs to other texts/);
    const none = calibrate(model, [text], { candidates: [window(16)], budget: { mass: 0 } });
    await expect(none).rejects.toThrow(/budget's mass is 0/);
    await expect(calibrate(model, [], { candidates: [window(16)], budget: { mass: 1 } })).rejects.toThrow(/no tokens/);
    const decoding = calibrate(model, [text], { candidates: [{ method: 'quest', options: {} }], budget: { mass: 0.9 } });
    await expect(decoding).rejects.toThrow(/selects while decoding/);
  });

  it('reads the model as often as memory asks for, with the same result', async () => {
    const options = { candidates: [window(16), window(400)], budget: { mass: 0.9 } } as const;
    const before = model.runs;
    const small = await calibrate(model, [text], { ...options, memoryBytes: 1 });
    expect(model.runs - before).toBe(2);
    expect(small).toEqual(await calibrate(model, [text], options));
  });

  it('returns all memory', async () => {
    await backend.sync();
    const { liveBytes } = backend.memory();
    await calibrate(model, [text], { candidates: [window(16)], budget: { mass: 0.9 } });
    await backend.sync();
    expect(backend.memory().liveBytes).toBe(liveBytes);
  });

  it('finds short and long elastic windows within the density at every length (MoA)', async () => {
    const half = text.slice(0, 256);
    const plan = await searchMoA(model, [half, text], { density: 0.6, block: 32 });
    for (const { heads } of plan.layers) {
      const [local, far] = heads.map(({ options }) => Number(options['alpha']) + Number(options['beta']) * length);
      expect(local).toBeLessThan(far);
    }
    expect(Number(plan.calibration['density'])).toBeLessThanOrEqual(0.6);
  });

  it('picks the channels that carry the products (Double Sparsity)', async () => {
    const vertical = { verticals: [3, 70, 200], strength: 30 };
    const loud = new PlantedModel(backend, [
      () => planted({ seed: 5, length, heads: 4, kvHeads: 2, noise: 0.3, plantings: [vertical] }),
    ]);
    for (const by of ['q', 'qk'] as const) {
      const { channels } = await calibrateChannels(loud, [text], { by, keep: 4 });
      expect(channels[0]).toHaveLength(2);
      // Verticals lie in channel 0.
      for (const head of channels[0]) expect(head[0]).toBe(0);
    }
    await expect(calibrateChannels(loud, [text], { keep: 0 })).rejects.toThrow(/keep is 0/);
  });

  it('fits a scale that grows with the sparsity asked for (skip softmax)', async () => {
    // Everyone looks at the first keys, in each layer more than in the one before; what is left of the other tiles differs as much.
    const sinks = new PlantedModel(
      backend,
      [7, 8.5, 10, 11.5].map(
        (strength) => () => planted({ seed: 11, length, heads: 2, noise: 1.2, plantings: [{ verticals: [0, 1], strength }] }),
      ),
    );
    const fit = await calibrateSkipSoftmax(sinks, [text, text.slice(0, 256)]);
    for (const { a, b } of [fit.prefill, fit.decode]) {
      expect(a).toBeGreaterThan(0);
      expect(b).toBeGreaterThan(0);
    }
  });
});
