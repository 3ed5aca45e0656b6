import { Random, type HostTensor } from '@filigree/core-tensor';
import type * as FastCheck from 'fast-check';
import { lowerMask } from '../lower-mask.js';
import { slidingWindow } from '../methods/sliding-window.js';
import { streaming } from '../methods/streaming.js';
import { packPlan } from '../pack-plan.js';
import { smallestBinding } from './cases.js';
import { maskOfCase, type MaskCase } from './mask-cases.js';

type PlanCase = MaskCase & { readonly kvHeads: number };

/** Packed plans for the queries and keys of a case: patterns, and masks of every kind with a map of key-value heads. */
export function planOfCase(fc: typeof FastCheck, sizes: PlanCase): FastCheck.Arbitrary<HostTensor> {
  const packed = (data: Int32Array): HostTensor => ({ shape: [data.length], dtype: 'i32', data });
  const { batch, heads, lengthQ, lengthK, kvHeads } = sizes;
  const [lenQ, lenK] = [lengthQ, lengthK].map((length) => Array<number>(batch).fill(length));
  const shape = { batch, heads, lenQ, lenK };
  const pattern = fc.oneof(
    fc.record({ sinks: fc.nat(5), window: fc.integer({ min: 1, max: 40 }), lastRows: fc.constantFrom(0, 0, 3) }).map(streaming),
    fc.record({ window: fc.integer({ min: 1, max: 30 }) }).map(slidingWindow),
  );
  const ofPatterns = pattern.map((make) => packed(packPlan(lowerMask(make(shape)))));
  const ofMasks = fc.record({ mask: maskOfCase(fc, sizes), mapped: fc.option(fc.nat(0x7fffffff)) }).map(({ mask, mapped }) => {
    const random = new Random(mapped ?? 0);
    const kvMap = mapped === null ? undefined : Int32Array.from({ length: heads }, () => random.nextInt(kvHeads));
    const data = packPlan({ ...lowerMask(mask), kvMap });
    // A plan is bound whole: where it would not fit, a pattern stands in.
    return packed(
      data.length <= smallestBinding ? data : packPlan({ ...lowerMask(slidingWindow({ window: 9 })(shape)), kvMap }),
    );
  });
  return fc.oneof(ofPatterns, { arbitrary: ofMasks, weight: 2 });
}
