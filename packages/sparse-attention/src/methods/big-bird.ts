import { Random } from '@filigree/core-tensor';
import { cellPattern } from '../cell-pattern.js';
import type { Pattern } from '../mask.js';
import { checkIntegers, defineMethod } from '../method.js';

export interface BigBirdOptions {
  /** Tokens per block; all counts below are of blocks. */
  readonly block: number;
  /** Random blocks of every block of queries; all there are, where there are fewer. */
  readonly random: number;
  /** Window, own block in the middle: ⌊window / 2⌋ on each side. */
  readonly window: number;
  /** First blocks that everyone sees, and that see everything. */
  readonly global: number;
  readonly seed: number;
  /** Default true: blocks before the query's alone, the left half of the window. */
  readonly causal?: boolean;
}

/**
 * BigBird: random, window and global blocks, which together make a graph in which any two tokens are few steps apart. Random blocks are drawn from those
 * that are neither global nor in the window, from a generator that counts: a block of queries has the same ones at any length, in any chunk and anywhere.
 * For models that were trained with it.
 *
 * Zaheer et al., "Big Bird: Transformers for Longer Sequences", arXiv:2007.14062.
 *
 * @throws OptionError when an option is not a non-negative integer, or block or window is 0.
 */
export function bigBird({ block, random, window, global, seed, causal = true }: BigBirdOptions): Pattern {
  checkIntegers('big-bird', { block, window }, 1);
  checkIntegers('big-bird', { random, global, seed });
  const half = Math.floor(window / 2);
  return (shape) => {
    const drawn = new Map<string, readonly (readonly [number, number])[]>();
    return cellPattern(
      shape,
      ({ position, lenK }) => {
        const own = Math.floor(position / block);
        if (own < global) return [[0, lenK]];
        // Later blocks exist for encoders only, whose length is known as a whole.
        const blocks = causal ? own : Math.ceil(lenK / block);
        const key = `${own} ${blocks}`;
        const randoms = drawn.get(key) ?? draw(new Random(seed, own), random, blocks, global, own - half, own + half);
        drawn.set(key, randoms);
        return [
          [0, global * block],
          [(own - half) * block, (own + half + 1) * block],
          ...randoms.map(([from, to]) => [from * block, to * block] as const),
        ];
      },
      { causal },
    );
  };
}

/** `count` distinct blocks of 0 … `blocks` − 1 without the first `global` and those from `left` to `right`, as ranges of one. */
function draw(
  random: Random,
  count: number,
  blocks: number,
  global: number,
  left: number,
  right: number,
): (readonly [number, number])[] {
  const candidates = Array.from({ length: blocks }, (_, index) => index).filter(
    (index) => index >= global && (index < left || index > right),
  );
  const picked: (readonly [number, number])[] = [];
  while (picked.length < count && candidates.length > 0) {
    const [block] = candidates.splice(random.nextInt(candidates.length), 1);
    picked.push([block, block + 1]);
  }
  return picked;
}

/** {@link bigBird} in the catalogue. */
export const bigBirdMethod = /* @__PURE__ */ defineMethod({
  id: 'big-bird',
  title: 'Random, window and global blocks (BigBird)',
  paper: 'arXiv:2007.14062',
  phase: 'both',
  training: 'full',
  emits: 'ranges',
  options: { block: 16, random: 1, window: 3, global: 1, seed: 0 },
  policy: (options) => ({ kind: 'pattern', pattern: bigBird(options) }),
});
