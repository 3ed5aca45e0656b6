import { cellPattern } from '../cell-pattern.js';
import type { Pattern } from '../mask.js';
import { checkIntegers, defineMethod, readIntegers } from '../method.js';
import { every } from './dilated.js';

export interface LongformerOptions {
  /** Keys on the left that a query sees, itself included; in an encoder as many on the right. */
  readonly window: number;
  /** Positions that everyone sees, and that see everything. */
  readonly globalTokens: readonly number[];
  /** Distance of one key of the window to the next. Default 1. */
  readonly dilation?: number;
  /** Default true. */
  readonly causal?: boolean;
}

/**
 * Longformer: a window, and global tokens that everyone sees and that see everything (what causality allows of it). The projections of their own that
 * global tokens have in the paper belong to models trained with them.
 *
 * Beltagy et al., "Longformer: The Long-Document Transformer", arXiv:2004.05150.
 *
 * @throws OptionError when an option or a position is not an integer in its range.
 */
export function longformer({ window, globalTokens, dilation = 1, causal = true }: LongformerOptions): Pattern {
  checkIntegers('longformer', { window, dilation }, 1);
  for (const token of globalTokens) checkIntegers('longformer', { globalTokens: token });
  const globals = new Set(globalTokens);
  return (shape) =>
    cellPattern(
      shape,
      ({ position, lenK }) => {
        if (globals.has(position)) return [[0, lenK]];
        const columns = globalTokens.map((token): [number, number] => [token, token + 1]);
        const right = causal
          ? []
          : every(lenK - 1 - position, dilation, window).map(([from, to]) => [lenK - to, lenK - from] as const);
        return [...columns, ...every(position, dilation, window), ...right];
      },
      { causal },
    );
}

/** {@link longformer} in the catalogue; `globalTokens` lists positions, separated by spaces. */
export const longformerMethod = /* @__PURE__ */ defineMethod({
  id: 'longformer',
  title: 'Window and global tokens (Longformer)',
  paper: 'arXiv:2004.05150',
  phase: 'both',
  training: 'full',
  emits: 'ranges, columns',
  options: { window: 512, globalTokens: '0', dilation: 1 },
  policy: ({ globalTokens, ...options }) => ({
    kind: 'pattern',
    pattern: longformer({ ...options, globalTokens: readIntegers('longformer', { globalTokens }) }),
  }),
});
