import type { Attended } from './attended.js';
import type { PlantedPrompt } from './planted.js';

/** Weights of exact causal attention of one query over its keys. */
export function exactWeights(prompt: PlantedPrompt, head: number, position: number): Float64Array {
  const { dim, length } = prompt;
  const kvHead = Math.floor(head / (prompt.heads / prompt.kvHeads));
  const query = prompt.q.subarray((head * length + position) * dim, (head * length + position + 1) * dim);
  const scores = Float64Array.from({ length: position + 1 }, (_, key) => {
    const at = (kvHead * length + key) * dim;
    let dot = 0;
    for (let channel = 0; channel < dim; channel++) dot += query[channel] * prompt.k[at + channel];
    return dot / Math.sqrt(dim);
  });
  const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = scores.map((score) => Math.exp(score - largest));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

/** Mean share of the exact attention of a head's queries that lies on the keys they attended to; query 0 is at `from`. */
export function recallOf(prompt: PlantedPrompt, keys: readonly (readonly number[])[], head: number, from = 0): number {
  let sum = 0;
  for (const [query, seen] of keys.entries()) {
    const weights = exactWeights(prompt, head, from + query);
    sum += seen.reduce((mass, key) => mass + weights[key], 0);
  }
  return keys.length === 0 ? 1 : sum / keys.length;
}

/** Share of the causal cells of a head that its queries attended to. */
export function densityOf(keys: readonly (readonly number[])[], from = 0): number {
  const possible = keys.reduce((sum, _, query) => sum + from + query + 1, 0);
  return keys.reduce((sum, seen) => sum + seen.length, 0) / possible;
}

/** Keys of all queries of one element, per head. */
export function headsOf(attended: Attended, element = 0): Attended['keys'][number] {
  return attended.keys[element];
}
