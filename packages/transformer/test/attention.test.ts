import { AbortError, type Backend, type Tensor } from '@filigree/core-tensor';
import {
  attentionMethods,
  denseAttention,
  headPlanVersion,
  layerPlan,
  type HeadChoice,
  type HeadPlan,
} from '@filigree/sparse-attention';
import { generate, phaseAttention, type AttentionOptions, type AttentionPhase, type Model } from '@filigree/transformer';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { methodCases } from '../../sparse-attention/test/support/method-cases.js';
import { backends, loadTiny } from './support/tiny.js';

const prompt = Array.from({ length: 150 }, (_, index) => (index * 31) % 200);
const continuation = [9, 8, 7, 6, 5, 4, 3, 2];

async function numbers(logits: Promise<Tensor>): Promise<Float32Array> {
  const tensor = await logits;
  const values = (await tensor.read()) as Float32Array;
  tensor.dispose();
  return values;
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((largest, value, index) => Math.max(largest, Math.abs(value - b[index])), 0);
}

const methodsOf = (phase: AttentionPhase) =>
  attentionMethods.filter((method) => method.phase === 'both' || method.phase === phase);

for (const [name, create] of backends) {
  describe(`attention of a model on ${name}`, { timeout: 120_000 }, () => {
    let backend: Backend;
    let model: Model;
    let dense: Float32Array;
    let denseDecoded: Float32Array;

    beforeAll(async () => {
      backend = create();
      // Weights in f32: activations beside quantised ones are rounded, which makes steps of small differences.
      model = await loadTiny({ backend, kvType: 'f32' }, { type: 'F32' });
      dense = await numbers(model.logits(prompt));
      denseDecoded = await decoded();
    });

    afterAll(() => {
      model.dispose();
      backend.dispose();
    });

    /** Logits of the continuation, token by token. */
    async function decoded(attention?: AttentionOptions): Promise<Float32Array> {
      const prefix = await model.prefill(prompt);
      try {
        return await numbers(prefix.logits(continuation, { phase: 'decode', attention }));
      } finally {
        prefix.dispose();
      }
    }

    it.each(methodsOf('prefill').map(({ id }) => id))('%s leaves the prompt as it is at its dense extreme', async (method) => {
      const attention = { prefill: { method, options: methodCases[method].dense } };
      expect(largestDifference(await numbers(model.logits(prompt, { attention })), dense)).toBeLessThan(5e-4);
      const chunks = await numbers(model.logits(prompt, { attention, prefillChunk: 70 }));
      expect(largestDifference(chunks, dense)).toBeLessThan(5e-4);
    });

    it.each(methodsOf('decode').map(({ id }) => id))('%s leaves decoding as it is at its dense extreme', async (method) => {
      const attention = { decode: { method, options: methodCases[method].dense } };
      expect(largestDifference(await decoded(attention), denseDecoded)).toBeLessThan(5e-4);
    });

    it.each(methodsOf('prefill').map(({ id }) => id))(
      '%s reads a prompt, and every layer says how dense it was',
      async (method) => {
        const attention = { prefill: { method, options: methodCases[method].options } };
        const prefix = await model.prefill(prompt, { attention, prefillChunk: 100, measure: { recall: true } });
        const { density, attention: measured } = prefix.stats;
        const values = (await prefix.next.read()) as Float32Array;
        prefix.dispose();
        expect(values.every(Number.isFinite)).toBe(true);
        expect(density).toBeGreaterThan(0);
        expect(density).toBeLessThanOrEqual(1);
        for (const layer of measured.layers.filter(({ recall }) => recall !== undefined)) {
          expect(layer.recall).toBeGreaterThan(0);
          expect(layer.recall).toBeLessThan(1.0001);
        }
      },
    );

    it.each(methodsOf('decode').map(({ id }) => id))('%s decodes the same recorded and not', async (method) => {
      const attention = { decode: { method, options: methodCases[method].options } };
      const recorded = await decoded(attention);
      const record = backend.record.bind(backend);
      backend.record = (step) => ({ replay: step, dispose: () => undefined });
      try {
        expect(largestDifference(await decoded(attention), recorded)).toBeLessThan(1e-6);
      } finally {
        backend.record = record;
      }
    });

    it.each(['streaming-llm', 'strided-sparse', 'big-bird', 'quest', 'double-sparsity', 'tidal-decode'])(
      '%s replays its decode steps',
      async (method) => {
        if (name !== 'native') return;
        const decode = { method, options: methodCases[method].options };
        const attention = phaseAttention({ decode }, 'decode', model.config, 'test');
        const session = model.session(200);
        (await session.prefill(prompt, { logits: 'last' })).dispose();
        const ops: number[] = [];
        for (const token of continuation.slice(0, 3)) {
          const profile = vi.spyOn(backend, 'run');
          const { logits, best, value } = session.decode([token], attention);
          ops.push(profile.mock.calls.length);
          profile.mockRestore();
          for (const tensor of [logits, best, value]) tensor.dispose();
        }
        // Sums of what selectors count are the step's own; everything else is in the recording.
        expect(ops[2]).toBeLessThanOrEqual(1);
        session.dispose();
      },
    );

    it('gives each head its own method, as a mask of all heads does', async () => {
      const { layers, heads, kvHeads } = model.config;
      const window = (size: number): HeadChoice => ({ method: 'sliding-window', options: { window: size } });
      const shape = { name: 'tiny', layers, heads, kvHeads };
      const same = layerPlan(shape, () => window(40));
      const whole = await numbers(model.logits(prompt, { attention: { prefill: window(40) } }));
      expect(await numbers(model.logits(prompt, { attention: { plan: same } }))).toEqual(whole);
      const mixed = headPlan(shape, [window(4096), window(500), { method: 'dense', options: {} }, window(1000)]);
      expect(largestDifference(await numbers(model.logits(prompt, { attention: { plan: mixed } })), dense)).toBeLessThan(5e-4);
    });

    it('runs selectors on some heads and others densely', async () => {
      const { layers, heads, kvHeads } = model.config;
      const shape = { name: 'tiny', layers, heads, kvHeads };
      const choice = (method: string): HeadChoice => ({ method, options: methodCases[method].dense });
      const plan = headPlan(shape, [
        choice('x-attention'),
        choice('minference'),
        choice('sliding-window'),
        choice('x-attention'),
      ]);
      const found = await numbers(model.logits(prompt, { attention: { plan }, prefillChunk: 64 }));
      expect(largestDifference(found, dense)).toBeLessThan(5e-4);
    });

    it('brings in what was cached without the selector, for forks that share pages and write into their own', async () => {
      const decode = { method: 'quest', options: { ...methodCases['quest'].options } };
      const prefix = await model.prefill(prompt);
      const logits = (tokens: readonly number[]): Promise<Float32Array> =>
        numbers(prefix.logits(tokens, { phase: 'decode', attention: { decode } }));
      const [one, other] = [continuation, [100, 101, 102, 103, 104]];
      const first = [await logits(one), await logits(other)];
      expect([await logits(one), await logits(other)]).toEqual(first);
      const longer = await prefix.extend([1, 2, 3]);
      prefix.dispose();
      const fresh = await model.prefill([...prompt, 1, 2, 3]);
      const of = (from: typeof longer): Promise<Float32Array> =>
        numbers(from.logits(one, { phase: 'decode', attention: { decode } }));
      expect(largestDifference(await of(longer), await of(fresh))).toBeLessThan(5e-4);
      longer.dispose();
      fresh.dispose();
    });

    it('uses positions of earlier layers in later ones, as a cost of theirs', async () => {
      const { layers } = model.config;
      const decode = { method: 'tidal-decode', options: { topK: 16, select: '0', denseSelect: true } };
      const generation = generate(model, prompt, { maxTokens: 9, ignoreEos: true, attention: { decode } });
      await generation.text();
      const causal = (prompt.length * (prompt.length + 1)) / 2;
      const later = Array.from({ length: 8 }, (_, step) => prompt.length + 1 + step).reduce((sum, keys) => sum + keys, 0);
      const densities = generation.stats.attention.layers.map(({ density }) => density);
      expect(densities).toHaveLength(layers);
      expect(densities[0]).toBe(1);
      for (const density of densities.slice(1)) expect(density).toBeCloseTo((causal + 8 * 16) / (causal + later), 6);
    });

    it('selects anew once entries were taken back', async () => {
      const options = { page: 4, sub: 4, tokenBudget: 16, reuse: 8 };
      const attention = phaseAttention({ decode: { method: 'lserve', options } }, 'decode', model.config, 'test');
      const logits = async (before: readonly number[]): Promise<Float32Array> => {
        const session = model.session(200);
        (await session.prefill(prompt, { logits: 'last' })).dispose();
        if (before.length > 0) (await session.forced(before, attention)).dispose();
        session.truncate(prompt.length);
        // A dense step, so that the next ones are as long as those that the first selection was for.
        (await session.forced(continuation.slice(0, 1), undefined)).dispose();
        const result = await numbers(session.forced(continuation.slice(1), attention));
        session.dispose();
        return result;
      };
      expect(await logits([1])).toEqual(await logits([]));
    });

    it('gives memory back, after an abort too', async () => {
      await backend.sync();
      const before = backend.memory().liveBytes;
      const attention = {
        prefill: { method: 'x-attention', options: methodCases['x-attention'].options },
        decode: { method: 'tidal-decode', options: methodCases['tidal-decode'].options },
      };
      await generate(model, prompt, { maxTokens: 5, ignoreEos: true, attention }).text();
      const controller = new AbortController();
      const generation = generate(model, prompt, { maxTokens: 50, ignoreEos: true, attention, signal: controller.signal });
      const aborted = (async () => {
        for await (const _ of generation) controller.abort();
      })();
      await expect(aborted).rejects.toThrow(AbortError);
      await backend.sync().catch(() => undefined);
      expect(backend.memory().liveBytes).toBe(before);
    });

    it('counts what decoding saw', async () => {
      const decode = { method: 'sliding-window', options: { window: 16 } };
      const generation = generate(model, prompt, { maxTokens: 9, ignoreEos: true, attention: { decode } });
      await generation.text();
      const causal = (prompt.length * (prompt.length + 1)) / 2;
      const later = Array.from({ length: 8 }, (_, step) => prompt.length + 1 + step).reduce((sum, keys) => sum + keys, 0);
      expect(generation.stats.density).toBeCloseTo((causal + 8 * 16) / (causal + later), 6);
      expect(generation.stats.attention.layers).toHaveLength(model.config.layers);
    });

    it('waits for the host where a method keeps an index there, and gives its memory back', async () => {
      await backend.sync();
      const before = backend.memory().liveBytes;
      const options = { sinks: 2, recent: 8, topK: 40, index: 'graph', degree: 8, ef: 80, trainSteps: 4, batch: 4 };
      const decode = { method: 'retrieval-attention', options };
      const generation = generate(model, prompt, { maxTokens: 12, ignoreEos: true, attention: { decode } });
      expect((await generation.text()).length).toBeGreaterThan(0);
      expect(generation.stats.density).toBeLessThan(1);
      const session = model.session(200);
      (await session.prefill(prompt, { logits: 'last' })).dispose();
      const attention = phaseAttention({ decode }, 'decode', model.config, 'test');
      expect(() => session.decode([1], attention)).toThrow(/its index is on the host/);
      session.dispose();
      await backend.sync();
      expect(backend.memory().liveBytes).toBe(before);
    });

    it('lets a method decode by what it observed of the prompt, and gives its memory back', async () => {
      await backend.sync();
      const before = backend.memory().liveBytes;
      const choice = { method: 'inf-llm', options: { block: 8, sinks: 8, local: 16, topK: 2, repr: 1 } };
      const logits = async (attention: AttentionOptions): Promise<Float32Array> => {
        const session = model.session(200);
        const phases = (['prefill', 'decode'] as const).map((phase) => phaseAttention(attention, phase, model.config, 'test'));
        (await session.prefill(prompt, { logits: 'last', attention: phases[0] })).dispose();
        const { logits: next, best, value } = await session.next([1], phases[1]);
        const values = await numbers(Promise.resolve(next));
        for (const tensor of [best, value]) tensor.dispose();
        session.dispose();
        return values;
      };
      const observed = await logits({ prefill: choice, decode: choice });
      expect(largestDifference(observed, await logits({ decode: choice }))).toBeGreaterThan(1e-4);
      const generation = generate(model, prompt, {
        maxTokens: 12,
        ignoreEos: true,
        attention: { prefill: choice, decode: choice },
      });
      expect((await generation.text()).length).toBeGreaterThan(0);
      expect(generation.stats.density).toBeLessThan(1);
      await backend.sync();
      expect(backend.memory().liveBytes).toBe(before);
    });

    it('rejects methods of another phase and plans of another model', async () => {
      const bad = (attention: AttentionOptions): unknown => generate(model, 'x', { attention });
      expect(() => bad({ decode: { method: 'x-attention' } })).toThrow(/attention.decode: x-attention is a method of prefill/);
      const other = layerPlan({ name: 'other', layers: 3, heads: 4, kvHeads: 2 }, () => ({ method: 'dense', options: {} }));
      expect(() => bad({ plan: other })).toThrow(/made for 3 layers/);
      const all = layerPlan({ name: 'tiny', layers: 2, heads: 4, kvHeads: 2 }, () => ({
        method: denseAttention.id,
        options: {},
      }));
      expect(await numbers(model.logits(prompt, { attention: { plan: all } }))).toEqual(dense);
    });
  });
}

/** The same choices for the heads of every layer. */
function headPlan(model: HeadPlan['model'], heads: readonly HeadChoice[]): HeadPlan {
  return {
    version: headPlanVersion,
    model,
    calibration: {},
    layers: Array.from({ length: model.layers }, () => ({ heads })),
  };
}
