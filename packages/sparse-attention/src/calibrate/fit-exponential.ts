import { OptionError } from '@filigree/core-tensor';

/** scale = a · e^(b · sparsity). */
export interface ExponentialFit {
  readonly a: number;
  readonly b: number;
}

/**
 * Least squares of ln scale over sparsity, through the points whose sparsity lies in [0.1, 0.9]: outside of it a threshold skips next to nothing
 * or everything, and its scale says little.
 *
 * @throws OptionError when fewer than two such points, or points of one sparsity only, are there.
 */
export function fitExponential(points: readonly { readonly sparsity: number; readonly scale: number }[]): ExponentialFit {
  const used = points.filter(({ sparsity, scale }) => sparsity >= 0.1 && sparsity <= 0.9 && scale > 0);
  const count = used.length;
  const meanX = used.reduce((sum, { sparsity }) => sum + sparsity, 0) / count;
  const meanY = used.reduce((sum, { scale }) => sum + Math.log(scale), 0) / count;
  const variance = used.reduce((sum, { sparsity }) => sum + (sparsity - meanX) ** 2, 0);
  if (count < 2 || variance === 0)
    throw new OptionError(
      `calibrate: ${count} thresholds skip between 10 and 90 % of the tiles, a fit needs two that differ; give longer texts`,
    );
  const b = used.reduce((sum, { sparsity, scale }) => sum + (sparsity - meanX) * (Math.log(scale) - meanY), 0) / variance;
  return { a: Math.exp(meanY - b * meanX), b };
}
