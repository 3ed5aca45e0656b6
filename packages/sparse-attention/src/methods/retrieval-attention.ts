import { cast, ExecutionError, fromArray, gatherRows, scope, type Tensor } from '@filigree/core-tensor';
import { checkChoice, checkIntegers, defineMethod } from '../method.js';
import { FlatIndex } from '../retrieval/flat-index.js';
import { GraphIndex } from '../retrieval/graph-index.js';
import { IvfIndex } from '../retrieval/ivf-index.js';
import { indexKinds, type IndexKind } from '../retrieval/key-index.js';
import { SequenceIndex } from '../retrieval/sequence-index.js';
import { isShort, stepSizes } from '../select/step.js';
import type { SelectContext, Selection, Selector } from '../selector.js';

export interface RetrievalAttentionOptions {
  /** First keys, which everyone sees. */
  readonly sinks: number;
  /** Newest keys, which everyone sees; up to `batch` more until they go into the index. */
  readonly recent: number;
  /** Keys that a query retrieves. */
  readonly topK: number;
  /** What is searched: every key, lists around centroids, or a graph. */
  readonly index: IndexKind;
  /** Graph: neighbours of a key. */
  readonly degree: number;
  /** Graph: keys that a search goes on from. */
  readonly ef: number;
  /** Graph: decode steps whose queries it is built from; every key is looked at until then. */
  readonly trainSteps: number;
  /** Keys that go into the index at a time. */
  readonly batch: number;
}

/**
 * RetrievalAttention: old keys are in an index on the host, one for each key-value head; every query head retrieves those with the greatest products and sees them beside the
 * sinks and the newest keys, two parts that are merged. A graph is built from the queries of the first decode steps, as queries and keys are distributed differently.
 *
 * Every layer of a step waits for the host, so steps are not recorded; the index belongs to the sequence, and forks build their own.
 * Liu et al., "RetrievalAttention: Accelerating Long-Context LLM Inference via Vector Retrieval", arXiv:2409.10516.
 *
 * @throws OptionError when an option is out of its range; from `select`, ExecutionError, as it only selects asynchronously.
 */
export function retrievalAttention(options: RetrievalAttentionOptions): Selector {
  const { sinks, recent, topK, index, degree, ef, trainSteps, batch } = options;
  checkIntegers('retrieval-attention', { recent, topK, degree, ef, trainSteps, batch }, 1);
  checkIntegers('retrieval-attention', { sinks });
  const make = (dim: number) => ({
    exact: (keys: Float32Array) => (index === 'ivf' ? new IvfIndex(dim, keys) : new FlatIndex(dim, keys)),
    trained: (keys: Float32Array, queries: Float32Array) => new GraphIndex(dim, keys, queries, { degree, ef }),
    trainSteps: index === 'graph' ? trainSteps : Infinity,
  });
  return {
    needsLengths: true,
    select() {
      throw new ExecutionError(
        'retrieval-attention: its index is on the host; use attendByPolicyAsync, or generate of a model',
      );
    },
    async selectAsync(context) {
      const { lenQ, lenK, q, layer, memory } = context;
      if (!lenK) throw new ExecutionError('retrieval-attention: a recorded step does not know lenK, which the index needs');
      if (isShort(context, sinks + recent + topK) || lenQ.some((count) => count !== 1)) return 'dense';
      const { heads, kvHeads, dim, lengthQ } = stepSizes(context);
      const name = `retrieval-attention ${layer}`;
      const known = memory?.sequence.get(name)?.note as readonly SequenceIndex[] | undefined;
      const indexes = known ?? lenK.map(() => new SequenceIndex(kvHeads, dim, make(dim)));
      const [queries, kvHeadOf] = [(await q.read()) as Float32Array, await headMap(context, heads, kvHeads)];
      const lists = new Int32Array(lenK.length * heads * lengthQ * topK).fill(-1);
      for (const [element, own] of indexes.entries()) {
        const end = Math.max(sinks, lenK[element] - recent);
        const from = sinks + own.size;
        if (own.size === 0 || end - from >= batch) own.add(await readKeys(context, element, from, end));
        for (let head = 0; head < heads; head++) {
          // One token, so that both layouts of queries are the same.
          const row = (element * heads + head) * dim;
          const ids = own.search(kvHeadOf[head], queries.subarray(row, row + dim), topK);
          lists.set(Int32Array.from(ids, (id) => sinks + id).sort(), (element * heads + head) * topK);
        }
        own.stepDone();
      }
      memory?.sequence.keep(name, { parts: [], lenK, note: indexes });
      return selection(context, lists, topK, (element) => [sinks, sinks + indexes[element].size]);
    },
  };
}

/** Retrieved keys, and those outside of the index, which all heads see. */
function selection(
  { q, lenK = [] }: SelectContext,
  lists: Int32Array,
  topK: number,
  indexed: (element: number) => readonly [number, number],
): Selection {
  const { backend } = q;
  const batch = lenK.length;
  const heads = lists.length / topK / batch;
  const others = lenK.map((length, element) => {
    const [start, end] = indexed(element);
    return Array.from({ length }, (_, key) => key).filter((key) => key < start || key >= end);
  });
  const slots = Math.max(...others.map((keys) => keys.length));
  const padded = others.flatMap((keys) => [...keys, ...Array<number>(slots - keys.length).fill(-1)]);
  const counts = Array.from({ length: batch * heads }, (_, list) =>
    lists.subarray(list * topK, (list + 1) * topK).reduce((sum, key) => sum + Number(key >= 0), 0),
  );
  return {
    parts: [
      {
        indices: fromArray(backend, lists, [batch, heads, 1, topK], 'i32'),
        cells: fromArray(backend, counts, [batch, heads, 1]),
      },
      {
        indices: fromArray(backend, padded, [batch, 1, 1, slots], 'i32'),
        cells: fromArray(
          backend,
          others.map((keys) => keys.length),
          [batch, 1, 1],
        ),
      },
    ],
  };
}

async function headMap({ kvMap, kvHeadOf }: SelectContext, heads: number, kvHeads: number): Promise<ArrayLike<number>> {
  if (kvHeadOf) return kvHeadOf;
  if (kvMap) return kvMap.readNumbers();
  return Array.from({ length: heads }, (_, head) => Math.floor(head / (heads / kvHeads)));
}

/** Keys `from … end` of an element, [Hk] of [n, D]. */
async function readKeys({ k, table }: SelectContext, element: number, from: number, end: number): Promise<Float32Array[]> {
  const [, kvHeads, size, dim] = k.shape;
  const first = Math.floor(from / size);
  const count = Math.max(0, Math.ceil(end / size) - first);
  const own = table ? await table.readNumbers() : undefined;
  const ids = Array.from({ length: count }, (_, index) =>
    own && table ? own[element * table.shape[1] + first + index] : element,
  );
  const gathered = scope((): Tensor => {
    const rows = gatherRows(k, fromArray(k.backend, ids, [count], 'i32'));
    return rows.dtype === 'f32' ? rows : cast(rows, 'f32');
  });
  const pages = (await gathered.read()) as Float32Array;
  gathered.dispose();
  return Array.from({ length: kvHeads }, (_, head) => {
    const keys = new Float32Array(Math.max(0, end - from) * dim);
    for (let position = from; position < end; position++) {
      const page = Math.floor(position / size) - first;
      const at = ((page * kvHeads + head) * size + (position % size)) * dim;
      keys.set(pages.subarray(at, at + dim), (position - from) * dim);
    }
    return keys;
  });
}

/** {@link retrievalAttention} in the catalogue. */
export const retrievalAttentionMethod = /* @__PURE__ */ defineMethod({
  id: 'retrieval-attention',
  title: 'RetrievalAttention: keys from an index on the host',
  paper: 'arXiv:2409.10516',
  phase: 'decode',
  training: 'none',
  emits: 'indices',
  options: { sinks: 128, recent: 512, topK: 2000, index: 'flat', degree: 32, ef: 128, trainSteps: 64, batch: 64 },
  policy: ({ index, ...options }) => ({
    kind: 'selector',
    selector: retrievalAttention({ ...options, index: checkChoice('retrieval-attention', 'index', index, indexKinds) }),
  }),
});
