import { createNativeBackend } from '@filigree/backend-native';
import { cast, fromArray, Random, scope, type Backend, type Tensor } from '@filigree/core-tensor';
import { codedAttention, int8Kv, kiviKv, mustafarKv, type CodedKvCodec } from '@filigree/kv-cache';
import { attention } from '@filigree/sparse-attention';
import { layerShape } from './sparse-attention.js';

/** How a cache is stored. */
export const kvStorages = ['f32', 'f16', 'int8', 'kivi4', 'kivi2', 'bitmap50', 'bitmap70'] as const;
export type KvStorage = (typeof kvStorages)[number];

export interface KvWork {
  readonly threads: number;
  readonly rounds: number;
  /** Entries of the cache. */
  readonly length: number;
}

/** Milliseconds of attention of one token in one layer, round by round, and the bytes that it reads. */
export interface KvTime {
  readonly storage: KvStorage;
  readonly bytes: number;
  readonly milliseconds: readonly number[];
}

const pageSize = 64;
/** So many layers in turn as a small model has: nothing stays in a processor's caches. */
const layerCount = 30;
const codecs = {
  ...{ int8: int8Kv(), kivi4: kiviKv({ bits: 4 }), kivi2: kiviKv({ bits: 2 }) },
  ...{ bitmap50: mustafarKv({ sparsity: 0.5 }), bitmap70: mustafarKv({ sparsity: 0.7 }) },
};

/** Times a decode step of one token over caches of every storage, in turn, round after round. */
export async function measureKvCodecs({ threads, rounds, length }: KvWork): Promise<KvTime[]> {
  const backend = createNativeBackend({ threads, fallback: 'error' });
  const { heads, dim } = layerShape;
  const q = fromArray(backend, noise(heads * dim, 1), [1, 1, heads, dim]);
  const rows = cacheRows(length);
  const contenders = kvStorages.map((storage) => ({ storage, ...contender(backend, q, rows, length, storage) }));
  for (const { once } of contenders) await once();
  const times = contenders.map(({ storage, bytes }) => ({ storage, bytes, milliseconds: [] as number[] }));
  for (let round = 0; round < rounds; round++)
    for (const [index, { once }] of contenders.entries()) times[index].milliseconds.push((await once()) / layerCount);
  backend.dispose();
  return times;
}

interface Rows {
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly shape: readonly number[];
}

function cacheRows(length: number): Rows {
  const { kvHeads, dim } = layerShape;
  const size = length * kvHeads * dim;
  return { k: noise(size, 2), v: noise(size, 3), shape: [length / pageSize, kvHeads, pageSize, dim] };
}

function noise(count: number, seed: number): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: count }, () => random.nextNormal());
}

/** The layers of a storage and a step over all of them, recorded once and replayed, as a model decodes. */
function contender(
  backend: Backend,
  q: Tensor,
  { k, v, shape }: Rows,
  length: number,
  storage: KvStorage,
): { bytes: number; once: () => Promise<number> } {
  const pages = shape[0];
  const table = fromArray(backend, [...Array(pages).keys()], [1, pages], 'i32');
  const lengths = fromArray(backend, [length], [1], 'i32');
  const raw = (data: Float32Array): Tensor => fromArray(backend, data, shape);
  const layers = Array.from({ length: layerCount }, () =>
    scope(() => {
      if (storage === 'f32') return { k: raw(k), v: raw(v) };
      if (storage === 'f16') return { k: cast(raw(k), 'f16'), v: cast(raw(v), 'f16') };
      const codec = codecs[storage];
      return { k: encoded(backend, codec, 'keys', raw(k)), v: encoded(backend, codec, 'values', raw(v)) };
    }),
  );
  const { dim } = layerShape;
  const step = (): void => {
    for (const layer of layers) {
      if (storage === 'f32' || storage === 'f16') attention(q, layer.k, layer.v, { table, lengths, queryLayout: 'blhd' });
      else {
        const codec = { k: codecs[storage], v: codecs[storage] };
        codedAttention(q, { ...layer, table, lengths, codec, pageSize, vDim: dim });
      }
    }
  };
  const recording = backend.record(() => {
    scope(step);
  });
  return {
    bytes: layers[0].k.bytes + layers[0].v.bytes,
    once: async () => {
      const started = performance.now();
      recording.replay();
      await backend.sync();
      return performance.now() - started;
    },
  };
}

function encoded(backend: Backend, codec: CodedKvCodec, side: 'keys' | 'values', pages: Tensor): Tensor {
  const [count, heads, size, dim] = pages.shape;
  const ids = fromArray(backend, [...Array(count).keys()], [count], 'i32');
  const coded = codec.allocate(backend, side, { pages: count, heads, pageSize: size, dim });
  codec.encodePages(side, { pages, sources: ids, targets: ids, coded });
  return coded;
}
