import { createNativeBackend } from '@filigree/backend-native';
import { fromArray, Random, scope, type Backend, type Tensor } from '@filigree/core-tensor';
import {
  attendByPolicy,
  attention,
  attentionMethod,
  type AttentionPolicy,
  type SelectContext,
} from '@filigree/sparse-attention';
import { randomTensor } from './kernel-time.js';
import { elapsed, layerShape } from './sparse-attention.js';

export interface MethodsWork {
  readonly threads: number;
  readonly rounds: number;
  readonly length: number;
  /** Methods with the options they are timed with; others are the catalogue's. */
  readonly methods: readonly { readonly id: string; readonly options: Record<string, number | string | boolean> }[];
  /** `select`: what choosing keys for a whole prompt takes. `decode`: a step of one query, choosing included. */
  readonly what: 'select' | 'decode';
}

/** Milliseconds of a method and of dense attention, round by round. */
export interface MethodTime {
  readonly id: string;
  readonly dense: readonly number[];
  readonly ours: readonly number[];
}

const pageSize = 16;
/** Caches of a decode step: more than a processor's caches hold, as those of a model's layers are. */
const layerCount = 8;

/** Times methods beside dense attention, in turn, round after round. */
export async function measureMethods({ threads, rounds, length, methods, what }: MethodsWork): Promise<MethodTime[]> {
  const backend = createNativeBackend({ threads, fallback: 'error' });
  const layers = Array.from({ length: what === 'decode' ? layerCount : 1 }, (_, layer) =>
    layerOf(backend, length, what === 'decode' ? 1 : length, layer),
  );
  const timer = (work: LayerWork) => layerTimer(backend, { layers, recorded: what === 'decode' }, work);
  const dense = timer(({ q, k, v, table, lengthsK }) => attention(q, k, v, { table, lengths: lengthsK }).o);
  await dense();
  const times: MethodTime[] = [];
  for (const { id, options } of methods) {
    const { selector } = selectorOf(attentionMethod(id).create(options));
    const states = layers.map(({ k }) => {
      const { kvHeads, heads, dim } = layerShape;
      const [pages] = k.shape;
      const state = selector.init?.({
        ...{ backend, layer: layerCount, layers: 2 * layerCount, heads, kvHeads, headDim: dim },
        ...{ pages, pageSize, dtype: 'f32' as const },
      });
      const slots = fromArray(
        backend,
        Int32Array.from({ length }, (_, slot) => slot),
        [length],
        'i32',
      );
      selector.append?.(state, { k, pages: k, slots });
      return state;
    });
    const ours = timer((context, index) =>
      what === 'decode'
        ? attendByPolicy(context, { kind: 'selector', selector }, states[index]).o
        : selector.select(context, states[index]),
    );
    await ours();
    const time = { id, dense: [] as number[], ours: [] as number[] };
    for (let round = 0; round < rounds; round++) {
      time.dense.push(await dense());
      time.ours.push(await ours());
    }
    for (const state of states) selector.dispose?.(state);
    times.push(time);
  }
  backend.dispose();
  return times;
}

type LayerWork = (layer: SelectContext, index: number) => unknown;

/** Milliseconds per layer of work over all of them: queued op by op, or recorded once and replayed, as a model decodes. */
function layerTimer(
  backend: Backend,
  { layers, recorded }: { readonly layers: readonly SelectContext[]; readonly recorded: boolean },
  work: LayerWork,
): () => Promise<number> {
  // Results of no use are freed within the step: one that leaves some behind cannot be kept, and runs op by op.
  const step = (): void => {
    scope(() => {
      layers.forEach(work);
    });
  };
  const recording = recorded ? backend.record(step) : undefined;
  // As many layers as a model has between the waits for its results.
  const replays = recording ? 4 : 1;
  const run = (): void => {
    for (let replay = 0; replay < replays; replay++)
      if (recording) recording.replay();
      else step();
  };
  return async () => (await elapsed(backend, run)) / layers.length / replays;
}

function selectorOf(policy: AttentionPolicy): Extract<AttentionPolicy, { kind: 'selector' }> {
  if (policy.kind !== 'selector') throw new Error('bench: only methods that choose keys are timed');
  return policy;
}

/** Queries and a paged cache in which every hundredth key is one that all queries look for. */
function layerOf(backend: Backend, length: number, lengthQ: number, seed: number): SelectContext {
  const { heads, kvHeads, dim } = layerShape;
  const random = new Random(seed + 1);
  const pages = length / pageSize;
  const row = (planted: boolean): number[] =>
    Array.from({ length: dim }, (_, channel) => random.nextFloat() - 0.5 + (planted && channel < 8 ? 1 : 0));
  const keys = new Float32Array(pages * kvHeads * pageSize * dim);
  for (let at = 0; at * dim < keys.length; at++) keys.set(row(at % 100 === 0), at * dim);
  const q = new Float32Array(heads * lengthQ * dim);
  for (let at = 0; at * dim < q.length; at++) q.set(row(true), at * dim);
  const counts = (values: readonly number[], shape: readonly number[]): Tensor =>
    fromArray(backend, Int32Array.from(values), shape, 'i32');
  const order = Array.from({ length: pages }, (_, page) => page);
  return {
    ...{ layer: layerCount, layers: 2 * layerCount, queryLayout: 'bhld', scale: 1 / Math.sqrt(dim), softcap: 0 },
    q: fromArray(backend, q, [1, heads, lengthQ, dim]),
    k: fromArray(backend, keys, [pages, kvHeads, pageSize, dim]),
    v: randomTensor(backend, [pages, kvHeads, pageSize, dim], seed),
    table: counts(order, [1, pages]),
    lengths: counts([lengthQ, length], [1, 2]),
    lengthsK: counts([length], [1]),
    lenQ: [lengthQ],
    lenK: [length],
    promptEnd: lengthQ === 1 ? undefined : [length],
    kvMap: undefined,
    rotate: undefined,
  };
}
