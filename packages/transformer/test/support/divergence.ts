/** Mean KL divergence of rows of logits, in nats. */
export function divergence(from: Float32Array, to: Float32Array, vocabulary: number): number {
  const logProbs = (logits: Float32Array, row: number): number[] => {
    const own = Array.from(logits.subarray(row * vocabulary, (row + 1) * vocabulary));
    const most = Math.max(...own);
    const sum = Math.log(own.reduce((total, logit) => total + Math.exp(logit - most), 0)) + most;
    return own.map((logit) => logit - sum);
  };
  let total = 0;
  const rows = from.length / vocabulary;
  for (let row = 0; row < rows; row++) {
    const [p, q] = [logProbs(from, row), logProbs(to, row)];
    total += p.reduce((sum, logP, id) => sum + Math.exp(logP) * (logP - q[id]), 0);
  }
  return total / rows;
}

/** What logits are, which are given back. */
export async function numbers(logits: Promise<{ read(): Promise<unknown>; dispose(): void }>): Promise<Float32Array> {
  const tensor = await logits;
  const read = (await tensor.read()) as Float32Array;
  tensor.dispose();
  return read;
}
