import {
  ExecutionError,
  keep,
  matmul,
  narrow,
  OptionError,
  reduce,
  scope,
  slice,
  unary,
  type Tensor,
} from '@filigree/core-tensor';
import { ascending, largest, perHead, type Allocation, type OpenEntries } from '../allocate.js';
import { compressor, type ScoredCompressor } from '../compressor.js';
import { defineKvMethod } from '../kv-method.js';
import { asFloat } from '../norms.js';
import { groupRows } from '../rows.js';
import { snapKv, votesWith, type SnapKvOptions } from './snap-kv.js';

export interface CriticalOptions {
  /** Added to scores before they are multiplied by what the value does to the output. */
  readonly eps: number;
  /** Share of a head's budget that goes by the scores alone. */
  readonly firstStage: number;
}

export type CriticalKvOptions = SnapKvOptions & CriticalOptions;

/**
 * The entries that an eviction would change the output of the layer most by: a part of the budget goes by the scores of a compressor, the rest by these times
 * |W_o · v|₁. How many entries a head keeps stays what it was. Not for scores that count the length of the value already.
 *
 * 2 · length · D · hidden operations per query head. Feng et al., "Identify Critical KV Cache in LLM Inference from an Output Perturbation Perspective",
 * arXiv:2502.03805.
 *
 * @throws OptionError when an option is out of its range; ExecutionError when the model does not say what its output matrix is.
 */
export function critical({ parts }: ScoredCompressor, { eps, firstStage }: CriticalOptions): ScoredCompressor {
  if (!(firstStage >= 0 && firstStage <= 1))
    throw new OptionError(`${parts.id}: firstStage is ${firstStage}, it must lie within 0 and 1`);
  if (!(eps >= 0)) throw new OptionError(`${parts.id}: eps is ${eps}, it must not be negative`);
  const { allocation: first = perHead } = parts;
  const allocation: Allocation = async (scores, entries, open) => {
    const counts = (await first(scores, entries, open)).map(({ length }) => length);
    const norms = await projectedNorms(parts.id, open);
    return scores.map((row, head) => {
      const second = Array.from(row, (score, id) => (score + eps) * norms[head][id]);
      for (const id of largest(row, Math.floor(firstStage * counts[head]))) second[id] = Infinity;
      return ascending(largest(second, counts[head]));
    });
  };
  return compressor({ ...parts, allocation });
}

/** Entries of one product. */
const rows = 1024;

/** |W_o[h] · v|₁ of entries, the mean over the query heads of a group. */
async function projectedNorms(id: string, { context, first, last }: OpenEntries): Promise<Float32Array[]> {
  const { v, heads, kvHeads, outputWeight } = context;
  if (!outputWeight) throw new ExecutionError(`${id}: the context has no outputWeight, which this method needs`);
  const weight = scope(() => keep(outputWeight()));
  const group = heads / kvHeads;
  const found = Array.from({ length: heads }, () => new Float32Array(last - first));
  try {
    for (let start = first; start < last; start += rows) {
      const count = Math.min(rows, last - start);
      for (let head = 0; head < heads; head++) {
        const norms = scope((): Tensor => {
          const own = narrow(v, Math.floor(head / group), 1);
          const values = asFloat(slice(own, [0, start, 0], [1, count, v.shape[2]]));
          return reduce(unary(matmul(values, narrow(weight, head, 1)), 'abs'), 'sum');
        });
        try {
          found[head].set(await norms.readNumbers(), start - first);
        } finally {
          norms.dispose();
        }
      }
    }
  } finally {
    weight.dispose();
  }
  return groupRows(found, kvHeads, 'mean');
}

/**
 * CriticalKV over SnapKV.
 * @throws OptionError when an option is out of its range.
 */
export function criticalKv({ eps, firstStage, ...options }: CriticalKvOptions): ScoredCompressor {
  const { parts } = snapKv(options);
  return critical(compressor({ ...parts, id: 'critical-kv' }), { eps, firstStage });
}

/** {@link criticalKv} in the catalogue. */
export const criticalKvMethod = /* @__PURE__ */ defineKvMethod({
  id: 'critical-kv',
  title: 'CriticalKV: votes and what values do to the output',
  paper: 'arXiv:2502.03805',
  phase: 'prefill',
  training: 'none',
  queryAgnostic: false,
  ragged: false,
  options: /* @__PURE__ */ votesWith({ eps: 1e-4, firstStage: 0.5 }),
  compressor: criticalKv,
});
