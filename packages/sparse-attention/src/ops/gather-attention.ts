import {
  defineOp,
  ExecutionError,
  formatShape,
  Random,
  scope,
  ShapeError,
  type HostTensor,
  type Tensor,
} from '@filigree/core-tensor';
import type * as FastCheck from 'fast-check';
import { tileKeys } from '../visible-keys.js';
import { attentionOutputs, attentionTolerance, checkKvMap, keyCapacity, precisions, queryLayouts } from './check.js';
import { kvMapOfCase, pagedCase, smallestBinding, type PagedCase } from './cases.js';
import { tiledCase } from './tiled-cases.js';
import { attributesOf, finishAttention, scaledQueries, type ExecutorCall } from './executor-call.js';
import { checkScoreOptions } from './kept-keys.js';
import { attendRow, geometryOf, type VisibleKeys } from './reference.js';
import { gatherAttentionKernel } from './webgpu-gather.js';

/**
 * Attention of every query over a list of keys of its own; arguments and results as in {@link attentionOp}.
 *
 * indices i32 [B,Hm,Lq,T]: positions of keys, ascending, −1 where there is none. Hm is Hq, Hk (a query head reads the list of its key-value head)
 * or 1; where Hk = Hq, lists are those of query heads. All of them are seen: what a query may see is decided by who makes the list.
 * pvSkip: tiles are entries 64 t … 64 t + 63 of a list. 2·B·Hq·Lq·T·(D + Dv) operations.
 */
export const gatherAttentionOp = /* @__PURE__ */ defineOp({
  name: 'sparse-attention/gather-attention',
  inputs: ['q', 'k', 'v', 'indices', 'table?', 'kvMap?'],
  outputs: ['o', 'lse'],
  attributes: {
    scale: { type: 'number' },
    softcap: { type: 'number', default: 0 },
    queryLayout: { type: 'enum', values: queryLayouts, default: 'bhld' },
    precision: { type: 'enum', values: precisions, default: 'f32' },
    pvSkip: { type: 'number', default: 0 },
  },
  infer({ q, k, v, indices, table, kvMap }, { queryLayout, pvSkip }) {
    const outputs = attentionOutputs('gather-attention', { q, k, v, table }, queryLayout);
    const [batch, heads, length] = outputs.lse.shape;
    checkKvMap('gather-attention', k, heads, kvMap);
    checkScoreOptions('gather-attention', { ...withoutNM, pvSkip });
    const [indexBatch, maskHeads, indexLength] = indices.shape;
    const fits = indices.shape.length === 4 && indexBatch === batch && indexLength === length;
    if (indices.dtype !== 'i32' || !fits || ![1, k.shape[1], heads].includes(maskHeads)) {
      throw new ShapeError(
        `gather-attention: indices is ${indices.dtype} ${formatShape(indices.shape)}, it takes i32 [${batch}, 1 or ${k.shape[1]} or ${heads}, ${length}, T]`,
      );
    }
    return outputs;
  },
  reference(io, { queryLayout, ...options }) {
    const geometry = geometryOf(io, queryLayout, io.kvMap?.data);
    const capacity = keyCapacity(io.k, io.table);
    for (let batch = 0; batch < geometry.batch; batch++) {
      for (let head = 0; head < geometry.heads; head++) {
        for (let query = 0; query < geometry.lengthQ; query++) {
          const visible = listedKeys(io.indices, { batch, head: listOf(io, geometry, head), query }, capacity);
          attendRow(io, geometry, { batch, head, query }, visible, { ...withoutNM, ...options });
        }
      }
    }
  },
  native: 'sparse_attention_gather_attention',
  webgpu: gatherAttentionKernel,
  tolerance: attentionTolerance,
  cases: (fc) => {
    const usual = pagedCase(fc).chain((paged) =>
      fc.record({
        // Which lists a piece of the queries reads is known beforehand only without a map.
        inputs: fc.record({ ...paged.inputs, indices: indexLists(fc, paged) }),
        attributes: fc.record({
          scale: fc.constant(1 / Math.sqrt(paged.dim)),
          softcap: fc.constantFrom(0, 0, 5),
          queryLayout: fc.constant(paged.queryLayout),
          precision: fc.constantFrom(...precisions),
        }),
      }),
    );
    const tiled = tiledCase(fc).chain(({ inputs, ...sizes }) =>
      fc.record({
        inputs: fc.record({
          q: fc.constant(inputs.q),
          k: fc.constant(inputs.k),
          v: fc.constant(inputs.v),
          table: fc.constant(inputs.table),
          indices: indexLists(fc, sizes, true),
          kvMap: kvMapOfCase(fc, sizes),
        }),
        attributes: fc.record({
          scale: fc.constant(0.5),
          queryLayout: fc.constant(sizes.queryLayout),
          precision: fc.constantFrom(...precisions),
          pvSkip: fc.constantFrom(0, 1.03, 8.03),
        }),
      }),
    );
    return fc.oneof({ arbitrary: usual, weight: 2 }, tiled);
  },
});

const withoutNM = { scoreN: 0, scoreM: 0, scoreSinks: 0, scoreRecent: 0 } as const;

/** Mask head whose list a query head reads. */
function listOf(
  { k, indices, kvMap }: { k: HostTensor; indices: HostTensor; kvMap?: HostTensor | undefined },
  { heads }: { heads: number },
  head: number,
): number {
  const maskHeads = indices.shape[1];
  if (maskHeads === heads) return head;
  return maskHeads === 1 ? 0 : (kvMap?.data[head] ?? Math.floor(head / (heads / k.shape[1])));
}

function listedKeys(
  indices: HostTensor,
  { batch, head, query }: { batch: number; head: number; query: number },
  capacity: number,
): VisibleKeys {
  const [, maskHeads, length, slots] = indices.shape;
  const from = ((batch * maskHeads + head) * length + query) * slots;
  const list = [...indices.data.subarray(from, from + slots)];
  if (list.some((key) => key >= capacity))
    throw new ExecutionError(`gather-attention: indices name key ${Math.max(...list)}, k holds ${capacity} keys`);
  const entries = [...list.keys()].filter((entry) => list[entry] >= 0);
  const tiles = entries.map((entry) => Math.floor(entry / tileKeys));
  return { keys: entries.map((entry) => list[entry]), tiles, position: 0 };
}

/** Ascending lists of some of the keys, shorter ones filled up with −1. */
function indexLists(
  fc: typeof FastCheck,
  { batch, heads, kvHeads, lengthQ, lengthK, queryLayout }: Omit<PagedCase, 'inputs'>,
  whole = false,
): FastCheck.Arbitrary<HostTensor> {
  return fc
    .record({
      maskHeads: fc.constantFrom(1, kvHeads, heads),
      slots: fc.constantFrom(0, 1, 9, 65, 130),
      chance: fc.constantFrom(0, 0.3, 0.9),
      seed: fc.nat(0x7fffffff),
    })
    .map(({ maskHeads, slots: wanted, chance, seed }) => {
      const random = new Random(seed);
      // Lists of queries that follow each other do so in memory only here; others must fit into a binding.
      const cuttable = !whole && (maskHeads === 1 || (queryLayout === 'bhld' && batch > 0));
      const lists = Math.max(1, batch * maskHeads * lengthQ);
      const slots = cuttable ? wanted : Math.min(wanted, Math.floor(smallestBinding / lists));
      const data = new Int32Array(batch * maskHeads * lengthQ * slots).fill(-1);
      for (let from = 0; from < data.length; from += slots) {
        let entry = 0;
        for (let key = 0; key < lengthK && entry < slots; key++) if (random.nextFloat() < chance) data[from + entry++] = key;
      }
      return { shape: [batch, maskHeads, lengthQ, slots], dtype: 'i32', data };
    });
}

export interface GatherAttentionOptions extends Omit<ExecutorCall, 'scoreNM'> {
  /** i32 [Hq]: query head → key-value head. */
  readonly kvMap?: Tensor | undefined;
}

/** Attention over lists of keys; see {@link gatherAttentionOp} and {@link ExecutorCall}. */
export function gatherAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  indices: Tensor,
  options: GatherAttentionOptions = {},
): { o: Tensor; lse: Tensor } {
  const { kvMap, ...call } = options;
  return scope(() => {
    const { scale, softcap, queryLayout, precision, pvSkip } = attributesOf(q, call);
    const inputs = { q: scaledQueries(q, call), k, v, indices, table: call.table, kvMap };
    return finishAttention(gatherAttentionOp(inputs, { scale, softcap, queryLayout, precision, pvSkip }), call);
  });
}
