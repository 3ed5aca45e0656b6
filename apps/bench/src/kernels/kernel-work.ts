/** Products of weights in 4-bit blocks of 32, in a circle through those sizes; one size is a square matrix. */
export interface MatmulWork {
  readonly kind: 'matmul';
  readonly tokens: number;
  readonly sizes: readonly number[];
}

/** Causal grouped-query attention of queries that are the last of the keys. */
export interface AttentionWork {
  readonly kind: 'attention';
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly queries: number;
  readonly keys: number;
}

export type KernelWork = MatmulWork | AttentionWork;

/** Bytes of weights or caches that all layers of a work have together: more than any last-level cache here holds. */
const layerBytes = 160 * 2 ** 20;
const maxLayers = 360;
/** Operations of a pass through all layers; beyond, a pass only takes longer, and arithmetic hides where its operands come from. */
const maxOperations = 20e9;

/** As records name it. */
export function kernelWorkName(work: KernelWork): string {
  if (work.kind === 'matmul') {
    const [first, ...rest] = work.sizes;
    return `matmul, 4 bits × 8 bits, [${work.tokens}, ${first}] → ${[...rest, first].join(' → ')}`;
  }
  return `attention ${work.heads}/${work.kvHeads} heads of ${work.headDim}, ${work.queries} × ${work.keys}`;
}

/** Bytes that one layer must read, and operations that it must do, with so many bytes per weight or per element of the cache. */
export function kernelDemands(work: KernelWork, bytesPerElement: number): { bytes: number; operations: number } {
  if (work.kind === 'matmul') {
    const [inputs, outputs] = [work.sizes[0], work.sizes[1 % work.sizes.length]];
    const activations = 4 * work.tokens * (inputs + outputs);
    return { bytes: inputs * outputs * bytesPerElement + activations, operations: 2 * work.tokens * inputs * outputs };
  }
  const { heads, kvHeads, headDim, queries, keys } = work;
  const visible = queries * (keys - queries) + (queries * (queries + 1)) / 2;
  return { bytes: 2 * kvHeads * keys * headDim * bytesPerElement, operations: 4 * heads * headDim * visible };
}

/** Layers of a work that are run together: a whole number of circles, so many that their weights or caches come from memory where that matters. */
export function layerCount(work: KernelWork, bytesPerElement: number): number {
  const circle = work.kind === 'matmul' ? work.sizes.length : 1;
  const { bytes, operations } = kernelDemands(work, bytesPerElement);
  const wanted = Math.min(layerBytes / bytes, maxOperations / operations, maxLayers);
  return circle * Math.ceil(wanted / circle);
}

const smollm2 = { kind: 'attention', heads: 9, kvHeads: 3, headDim: 64 } as const;

/** A large square matrix, and what SmolLM2 135M is made of. */
export const kernelWorks: readonly KernelWork[] = [
  ...[[2048], [576], [576, 1536]].flatMap((sizes) =>
    [1, 16, 128].map((tokens) => ({ kind: 'matmul', tokens, sizes }) satisfies MatmulWork),
  ),
  { ...smollm2, queries: 1, keys: 2048 },
  { ...smollm2, queries: 1, keys: 8192 },
  { ...smollm2, queries: 512, keys: 512 },
  { ...smollm2, queries: 512, keys: 4096 },
];
