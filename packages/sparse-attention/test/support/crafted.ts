import type { PlantedPrompt } from './planted.js';

/**
 * A prompt of one head whose scores are given: the query at p scores the key at j with score(p) · key(j), for a scale of 1/√16. Values are
 * those of the key's number in base 2, so that no two of them are equal.
 */
export function crafted(
  length: number,
  key: (position: number) => number,
  query: (position: number) => number = () => 1,
): PlantedPrompt {
  const dim = 16;
  const prompt = {
    heads: 1,
    kvHeads: 1,
    length,
    dim,
    q: new Float32Array(length * dim),
    k: new Float32Array(length * dim),
    v: new Float32Array(length * dim),
  };
  for (let position = 0; position < length; position++) {
    prompt.q[position * dim] = 4 * query(position);
    prompt.k[position * dim] = key(position);
    for (let channel = 0; channel < dim; channel++) prompt.v[position * dim + channel] = (position >> channel) & 1;
  }
  return prompt;
}
