/** KL(p‖q) in nats of the distributions that two rows of logits stand for. */
export function klDivergence(p: Float32Array, q: Float32Array): number {
  return divergence(logSoftmax(p), logSoftmax(q));
}

/** KL(p‖q) in nats of two rows of log probabilities. */
export function divergence(logP: Float64Array, logQ: Float64Array): number {
  let sum = 0;
  for (let token = 0; token < logP.length; token++) sum += Math.exp(logP[token]) * (logP[token] - logQ[token]);
  // Rounding can take a divergence of zero below it.
  return Math.max(0, sum);
}

/** Log probabilities of the tokens that logits stand for. */
export function logSoftmax(logits: Float32Array): Float64Array {
  let largest = -Infinity;
  for (const value of logits) largest = Math.max(largest, value);
  let sum = 0;
  for (const value of logits) sum += Math.exp(value - largest);
  const normalizer = largest + Math.log(sum);
  return Float64Array.from(logits, (value) => value - normalizer);
}
