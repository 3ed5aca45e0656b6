import { empty, keep, OptionError, type Tensor } from '@filigree/core-tensor';
import { pageBoundsOp } from './page-bounds.js';
import type { Selector } from '../selector.js';

/**
 * Least and greatest keys of every page, [pages, Hk, P / page, D]. Those of f32 keys are bf16, rounded outwards: half of the bytes that a step reads before
 * it reads keys, for bounds that are some 0.4 % looser.
 */
export interface PageBounds {
  readonly keyMin: Tensor;
  readonly keyMax: Tensor;
}

/** State of selectors that bound the scores of `page` keys. @throws OptionError from `init`, when pages of the cache are no multiple of `unit`. */
export function keyBounds(
  method: string,
  page: number,
  unit = page,
): Required<Pick<Selector<PageBounds>, 'init' | 'append' | 'pages' | 'dispose'>> {
  return {
    init({ backend, pages: count, kvHeads, pageSize: entries, headDim, dtype }) {
      if (entries % unit !== 0) throw new OptionError(`${method}: pageSize is ${unit}, the cache has pages of ${entries} keys`);
      // Words hold two numbers of 16 bits.
      const half = dtype === 'f32' && headDim % 2 === 0;
      const bounds = (): Tensor => keep(empty(backend, [count, kvHeads, entries / page, headDim], half ? 'bf16' : dtype));
      return { keyMin: bounds(), keyMax: bounds() };
    },
    append(state, { pages: k, slots }) {
      pageBoundsOp({ ...state, k, slots }, {});
    },
    pages: ({ keyMin, keyMax }) => [keyMin, keyMax],
    dispose({ keyMin, keyMax }) {
      keyMin.dispose();
      keyMax.dispose();
    },
  };
}
