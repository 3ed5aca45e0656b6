import type { HostTensor } from '@filigree/core-tensor';
import type * as FastCheck from 'fast-check';
import { slidingWindow } from '../methods/sliding-window.js';
import { streaming } from '../methods/streaming.js';
import { packPlan } from '../pack-plan.js';
import { lowerMask } from '../plan.js';
import type { PagedCase } from './cases.js';

/** Packed plans for the queries and keys of a case. */
export function planOfCase(
  fc: typeof FastCheck,
  { batch, heads, lengthQ, lengthK }: PagedCase,
): FastCheck.Arbitrary<HostTensor> {
  const pattern = fc.oneof(
    fc.record({ sinks: fc.nat(5), window: fc.integer({ min: 1, max: 40 }), lastRows: fc.constantFrom(0, 0, 3) }).map(streaming),
    fc.record({ window: fc.integer({ min: 1, max: 30 }) }).map(slidingWindow),
  );
  return pattern.map((make) => {
    const [lenQ, lenK] = [lengthQ, lengthK].map((length) => Array<number>(batch).fill(length));
    const data = packPlan(lowerMask(make({ batch, heads, lenQ, lenK })));
    return { shape: [data.length], dtype: 'i32', data };
  });
}
