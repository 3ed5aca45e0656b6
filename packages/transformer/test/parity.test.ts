import { createNativeBackend } from '@filigree/backend-native';
import { fullTier } from '@filigree/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadModel, type LoadModelOptions } from '../src/index.js';
import {
  chooseLogits,
  deviation,
  llamaLogits,
  readParityGolden,
  type ChosenLogits,
  type ParityGolden,
} from './support/parity-golden.js';

// Real models on real text against transformers in f32 and llama.cpp on the same files: scripts/parity/golden.mjs. `node scripts/parity/run.mjs`
// compares whole distributions; these tests those over the likeliest tokens.
const models = [
  { id: 'smollm2', variable: 'FILIGREE_MODEL_SMOLLM2', llamaDivergence: 2.8e-3 },
  { id: 'gemma3', variable: 'FILIGREE_MODEL_GEMMA3', llamaDivergence: 4.8e-3 },
] as const;

/** Our logits of the first `texts` texts, as the golden has them. */
async function ourLogits(path: string, golden: ParityGolden, texts: number, options: LoadModelOptions): Promise<ChosenLogits> {
  const backend = createNativeBackend({ fallback: 'error' });
  const model = await loadModel(path, { backend, ...options });
  const parts: ChosenLogits[] = [];
  for (const [index, tokens] of golden.texts.slice(0, texts).entries()) {
    const logits = await model.logits(tokens);
    parts.push(await chooseLogits(logits, golden, index * tokens.length));
    logits.dispose();
  }
  model.dispose();
  backend.dispose();
  return {
    chosen: Float32Array.from(parts.flatMap(({ chosen }) => Array.from(chosen))),
    norm: Float64Array.from(parts.flatMap(({ norm }) => Array.from(norm))),
    top: Int32Array.from(parts.flatMap(({ top }) => Array.from(top))),
  };
}

for (const { id, variable, llamaDivergence } of models) {
  describe(`${id}: logits against transformers in f32`, () => {
    let golden: ParityGolden;
    beforeAll(async () => {
      golden = await readParityGolden(id);
    });

    it('are measured on more than 512 positions, where llama.cpp deviates as it should', () => {
      const llama = deviation(golden, llamaLogits(golden));
      expect(llama.positions).toBeGreaterThan(512);
      // Merging unlikely tokens can only hide deviation.
      expect(llama.divergence).toBeLessThanOrEqual(llamaDivergence * 1.05);
      expect(llama.divergence).toBeGreaterThan(llamaDivergence * 0.5);
    });

    if (!fullTier) return;

    it('are the same up to rounding with activations and cache in f32', async () => {
      const path = process.env[variable] ?? '';
      const ours = deviation(golden, await ourLogits(path, golden, 1, { activations: 'none', kvType: 'f32' }));
      console.log(`parity ${id}, f32: KL ${ours.divergence.toExponential(2)}, max |Δlogit| ${ours.largest.toExponential(2)}`);
      expect(ours.positions).toBeGreaterThan(512);
      expect(ours.divergence).toBeLessThanOrEqual(1e-6);
      expect(ours.largest).toBeLessThanOrEqual(1e-2);
    }, 900_000);

    it('are as near as llama.cpp with activations in 8 bits', async () => {
      const path = process.env[variable] ?? '';
      const ours = deviation(golden, await ourLogits(path, golden, golden.texts.length, {}));
      const llama = deviation(golden, llamaLogits(golden));
      console.log(
        `parity ${id}, as shipped: KL ${ours.divergence.toExponential(2)} (llama.cpp ${llama.divergence.toExponential(2)}), ` +
          `top-1 ${(100 * ours.top1).toFixed(2)} % (llama.cpp ${(100 * llama.top1).toFixed(2)} %)`,
      );
      expect(ours.divergence).toBeLessThanOrEqual(1.1 * llama.divergence);
      expect(ours.top1).toBeGreaterThanOrEqual(llama.top1 - llama.top1Error);
    }, 900_000);
  });
}
