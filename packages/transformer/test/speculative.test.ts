import { OptionError, type Backend } from '@filigree/core-tensor';
import { generate, type GenerateOptions, type KvChoice, type Model, type SpeculationOptions } from '@filigree/transformer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { backends, loadTiny } from './support/tiny.js';

const prompts = Array.from({ length: 6 }, (_, seed) =>
  Array.from({ length: 90 }, (_id, at) => (at * (31 + 2 * seed) + seed) % 200),
);
const few: KvChoice = { method: 'snap-kv', options: { budget: 12, window: 4 } };

async function run(model: Model, prompt: readonly number[], options: GenerateOptions) {
  const generation = generate(model, prompt, { maxTokens: 40, ignoreEos: true, ...options });
  const tokens: number[] = [];
  for await (const { token } of generation) tokens.push(token);
  return { tokens, stats: generation.stats };
}

for (const [name, create] of backends) {
  describe(`speculative decoding on ${name}`, () => {
    let backend: Backend;
    let model: Model;

    beforeAll(async () => {
      backend = create();
      model = await loadTiny({ backend, kvType: 'f32' });
    });

    afterAll(() => {
      model.dispose();
      backend.dispose();
    });

    // The reference is slow and runs the same code around its kernels.
    const some = prompts.slice(0, name === 'reference' ? 1 : 6);

    it.each([1, 2, 4, 9])('gives the text of dense decoding with drafts of %d', async (gamma) => {
      for (const prompt of some) {
        const plain = await run(model, prompt, {});
        const { tokens, stats } = await run(model, prompt, { speculate: { kv: few, gamma } });
        expect(tokens).toEqual(plain.tokens);
        const { rounds, drafted, accepted } = stats.speculation ?? { rounds: 0, drafted: 0, accepted: 0 };
        expect(accepted).toBeLessThanOrEqual(drafted);
        // Every round gives what was accepted and one more; the first token is the prompt's.
        expect(rounds + accepted).toBe(39);
      }
    });

    it('gives the sampled text of the same seed', async () => {
      for (const [seed, prompt] of some.entries()) {
        const sampling = { temperature: 0.7, topK: 20, seed };
        const plain = await run(model, prompt, { sampling });
        const { tokens } = await run(model, prompt, { sampling, speculate: { kv: few, gamma: 3 } });
        expect(tokens).toEqual(plain.tokens);
      }
    });

    it('accepts every draft that sees all entries', async () => {
      const speculate: SpeculationOptions = { kv: { method: 'snap-kv', options: { budget: 4096 } }, gamma: 5 };
      const { stats } = await run(model, prompts[0], { speculate });
      expect(stats.speculation?.accepted).toBe(stats.speculation?.drafted);
    });

    it('leaves bytes as they would be without drafts, and gives all back', async () => {
      const before = backend.memory().liveBytes;
      const plain = await run(model, prompts[1], {});
      const { stats } = await run(model, prompts[1], { speculate: { kv: few, gamma: 9 } });
      // The last round may have run tokens that the plain generation has not; whole pages hide that.
      expect(Math.abs(stats.kvBytes - plain.stats.kvBytes)).toBeLessThan(1000);
      expect(backend.memory().liveBytes).toBe(before);
    });

    it('goes on after a prefix, and stops early without a leak', async () => {
      const before = backend.memory().liveBytes;
      const prefix = await model.prefill(prompts[2]);
      const question = [3, 1, 4, 1, 5, 9];
      const plain = await generate(prefix, question, { maxTokens: 12, ignoreEos: true }).text();
      const speculate = { kv: few, gamma: 3 };
      expect(await generate(prefix, question, { maxTokens: 12, ignoreEos: true, speculate }).text()).toBe(plain);
      for await (const { token } of generate(prefix, question, { speculate })) {
        expect(token).toBeGreaterThanOrEqual(0);
        break;
      }
      prefix.dispose();
      expect(backend.memory().liveBytes).toBe(before);
    });

    it('refuses what contradicts it', () => {
      const options =
        (more: GenerateOptions): (() => unknown) =>
        () =>
          generate(model, [1, 2, 3], { speculate: {}, ...more });
      expect(options({ speculate: { gamma: 0 } })).toThrow(OptionError);
      expect(options({ kv: few })).toThrow(/leave out kv/);
      expect(options({ attention: { decode: { method: 'quest' } } })).toThrow(/attention.decode/);
    });
  });
}
