// How far two next-token distributions are apart.

/** Index of the largest value, the first of equals. */
export function argMax(row) {
  let best = 0;
  for (let index = 1; index < row.length; index++) if (row[index] > row[best]) best = index;
  return best;
}

/** log Σ exp(x), in f64. */
export function logSumExp(row) {
  const largest = row[argMax(row)];
  let sum = 0;
  for (let index = 0; index < row.length; index++) sum += Math.exp(row[index] - largest);
  return largest + Math.log(sum);
}

/** KL(p‖q) of softmax(p) and softmax(q), in nats, and the largest difference between their logits. */
export function compareRows(p, q) {
  const [normP, normQ] = [logSumExp(p), logSumExp(q)];
  let divergence = 0;
  let largest = 0;
  for (let index = 0; index < p.length; index++) {
    const difference = p[index] - q[index];
    divergence += Math.exp(p[index] - normP) * (difference - normP + normQ);
    largest = Math.max(largest, Math.abs(difference));
  }
  return { divergence, largest };
}

/** Mean and its standard error. */
export function meanOf(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1);
  return { mean, error: Math.sqrt(variance / values.length) };
}
