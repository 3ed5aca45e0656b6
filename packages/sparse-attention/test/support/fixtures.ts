import { Random } from '@filigree/core-tensor';
import type { PlantedPrompt } from './planted.js';

/**
 * `planted`: faint keys and a large one that the last query points at. `hardPlanted`: all keys are of one size, and the last query points at one of
 * them: its weight is nearly everything, yet bounds over other keys exceed its score.
 */
export type FixtureKind = 'planted' | 'hardPlanted';

/**
 * One prompt with a key-value head of its own for every head, 64 channels, and where the last query of each head has its needle. Other queries are 0, values are the
 * keys.
 */
export function fixture(
  kind: FixtureKind,
  { seed, length, heads = 1 }: { readonly seed: number; readonly length: number; readonly heads?: number },
): { prompt: PlantedPrompt; needles: number[] } {
  const dim = 64;
  const random = new Random(seed);
  const k = Float32Array.from({ length: heads * length * dim }, () => (kind === 'planted' ? 0.3 : 1) * random.nextNormal());
  const prompt = { heads, kvHeads: heads, length, dim, q: new Float32Array(k.length), k, v: k };
  const needles = Array.from({ length: heads }, (_, head) => {
    const needle = Math.floor((0.1 + 0.7 * random.nextFloat()) * length);
    const key = prompt.k.subarray((head * length + needle) * dim, (head * length + needle + 1) * dim);
    if (kind === 'planted') scale(key, 11);
    const query = prompt.q.subarray((head * length + length - 1) * dim, (head * length + length) * dim);
    const strength = (kind === 'planted' ? 11 : 16) / norm(key);
    for (let channel = 0; channel < dim; channel++) query[channel] = strength * key[channel] + 0.1 * random.nextNormal();
    return needle;
  });
  return { prompt, needles };
}

function norm(row: Float32Array): number {
  return Math.hypot(...row);
}

function scale(row: Float32Array, length: number): void {
  const factor = length / norm(row);
  for (let channel = 0; channel < row.length; channel++) row[channel] *= factor;
}
