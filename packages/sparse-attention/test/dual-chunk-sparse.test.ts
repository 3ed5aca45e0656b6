import { createNativeBackend } from '@filigree/backend-native';
import * as coreTensor from '@filigree/core-tensor';
import { createReferenceBackend, ExecutionError, isOp, scope, type Backend } from '@filigree/core-tensor';
import * as sparseAttention from '@filigree/sparse-attention';
import {
  attendByPolicy,
  dualChunkMethod,
  dualChunkSparseMethod,
  type DualChunkSparseOptions,
  type MethodOptions,
  type PolicyResult,
} from '@filigree/sparse-attention';
import { firstDifference, webGpuBackends } from '@filigree/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { attendedBy, disagreement, type Attended } from './support/attended.js';
import { disposeContext, type ContextOptions } from './support/context.js';
import { chunkScores, contextWithRotation, dim, softmaxOf } from './support/dual-chunk.js';
import { span } from './support/mask-keys.js';
import { memoryOfSelecting } from './support/memory-of-selecting.js';
import { planted, type PlantedPrompt } from './support/planted.js';

const ops = [...Object.values<unknown>(coreTensor), ...Object.values<unknown>(sparseAttention)].filter(isOp);
const under: readonly { readonly name: string; create(): Promise<Backend> }[] = [
  { name: 'reference', create: () => Promise.resolve(createReferenceBackend()) },
  { name: 'native', create: () => Promise.resolve(createNativeBackend({ threads: 2, fallback: 'error' })) },
  ...webGpuBackends()
    .filter(({ name }) => name === 'webgpu/plain')
    .map(({ name, create }) => ({ name, create: () => create(ops.filter((op) => op.webgpu !== undefined)) })),
];

const sizes = { chunkSize: 64, localSize: 16, originalMax: 0 };
const options = { ...sizes, vertical: 31, slash: 50, lastQ: 40, sinkTokens: 3, localDiagonals: 4, sparseAbove: 0 };
const length = 240;
const prompt = planted({ seed: 1, length, heads: 2, dim, noise: 1.2 });

/** Keys that every query sees, from the definition: [heads][queries `from` … `to`, in row blocks of blockQ]. */
function expectedKeys(
  prompt: PlantedPrompt,
  options: DualChunkSparseOptions,
  [from, to, blockQ]: readonly [number, number, number],
): number[][][] {
  return span(0, prompt.heads).map((head) => {
    const [byKey, byDistance] = [new Float64Array(to), new Float64Array(to)];
    for (const p of span(Math.max(from, to - options.lastQ), to)) {
      for (const [j, weight] of softmaxOf(chunkScores(prompt, options, { head, p, bounded: false })).entries()) {
        byKey[j] += weight;
        byDistance[p - j] += weight;
      }
    }
    const best = (sums: Float64Array, count: number, forced: number): number[] =>
      span(0, to)
        .sort((a, b) => Number(b < forced) - Number(a < forced) || sums[b] - sums[a] || a - b)
        .slice(0, count);
    const columns = best(byKey, options.vertical, options.sinkTokens);
    const distances = best(byDistance, options.slash, options.localDiagonals);
    return span(from, to).map((p) => {
      const start = p - ((p - from) % blockQ);
      const keys = new Set([
        ...columns,
        ...distances.flatMap((o) => span(start - o, start - o + blockQ)),
        ...span(start, p + 1),
      ]);
      return [...keys].filter((key) => key >= 0 && key <= p).sort((a, b) => a - b);
    });
  });
}

interface Result {
  readonly o: Float64Array;
  readonly lse: Float64Array;
  readonly cells: PolicyResult['cells'];
  readonly attended: Attended;
  readonly wrong: string | undefined;
}

async function resultOf(backend: Backend, method: MethodOptions, step: ContextOptions = {}, dense = false): Promise<Result> {
  const context = contextWithRotation(backend, prompt, step);
  const { chunkSize, localSize, originalMax } = { ...sizes, ...method };
  const policy = dense
    ? dualChunkMethod.create({ chunkSize, localSize, originalMax })
    : dualChunkSparseMethod.create({ ...options, ...method });
  const { result, attended } = await attendedBy(context, () => scope(() => attendByPolicy(context, policy)));
  const wrong = await disagreement(context, result, attended, 1e-4);
  const [o, lse] = [await result.o.readNumbers(), await result.lse.readNumbers()].map((data) => Float64Array.from(data));
  result.o.dispose();
  result.lse.dispose();
  if (typeof result.cells === 'object') for (const cells of result.cells) cells.dispose();
  disposeContext(context);
  return { o, lse, cells: result.cells, attended, wrong };
}

describe.each(under)('the sparse companion of dual chunk attention on $name', ({ create }) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await create();
  });
  afterAll(() => {
    backend.dispose();
  });

  it.each([
    ['a prompt', {}, {}, 16],
    ['a prompt whose scores grow', { originalMax: 50 }, {}, 16],
    ['chunks that row blocks of 64 fit', { chunkSize: 80 }, { queryLayout: 'blhd' }, 64],
    ['a chunk of a prompt', {}, { from: [112], to: [208], pageSize: 16 }, 16],
    ['a step inside of a chunk', {}, { from: [149], to: [190], pageSize: 16, queryLayout: 'blhd' }, 64],
    ['more queries asked than a chunk has', { lastQ: 210 }, {}, 16],
    ['fewer queries than are asked', {}, { from: [197], to: [213] }, 64],
  ] as const)('sees what its definition says: %s', async (_name, method, step, blockQ) => {
    const all = { from: [0], to: [length], ...step };
    const { attended, wrong } = await resultOf(backend, method, step);
    expect(wrong).toBeUndefined();
    const expected = expectedKeys(prompt, { ...options, ...method }, [all.from[0], all.to[0], blockQ]);
    expect(attended.keys[0]).toEqual(expected);
  });

  it('has for recall exp(lse − dense lse) the mass of the keys that are seen', async () => {
    const [sparse, dense] = [await resultOf(backend, {}), await resultOf(backend, {}, {}, true)];
    const recalls = sparse.lse.map((lse, row) => Math.exp(lse - dense.lse[row]));
    const masses = span(0, prompt.heads).flatMap((head) =>
      span(0, length).map((p) => {
        const weights = softmaxOf(chunkScores(prompt, options, { head, p }));
        return sparse.attended.keys[0][head][p].reduce((sum, key) => sum + weights[key], 0);
      }),
    );
    expect(firstDifference(recalls, Float64Array.from(masses), { absolute: 1e-4, relative: 1e-4 })).toBeUndefined();
    expect(Math.min(...recalls)).toBeLessThan(0.95);
    expect(Math.max(...recalls)).toBeLessThan(1.0001);
  });

  it.each([
    ['with every column and distance', { vertical: 4096, slash: 4096 }, {}],
    ['up to sparseAbove keys', { sparseAbove: length }, {}],
    ['where row blocks of 16 would reach into the next chunk', {}, { from: [101] }],
    ['when decoding', { originalMax: 50 }, { from: [length - 1], decode: true }],
  ] as const)('is dense dual chunk attention %s', async (_name, method, step) => {
    const [sparse, dense] = [await resultOf(backend, method, step), await resultOf(backend, method, step, true)];
    for (const name of ['o', 'lse'] as const)
      expect(firstDifference(sparse[name], dense[name], { absolute: 2e-5, relative: 2e-5 })).toBeUndefined();
  });
});

describe('the sparse companion of dual chunk attention', () => {
  const backend = createNativeBackend({ threads: 2, fallback: 'error' });
  afterAll(() => {
    backend.dispose();
  });

  it('counts the cells that are seen', async () => {
    const context = contextWithRotation(backend, prompt, {});
    const policy = dualChunkSparseMethod.create(options);
    const { result, attended } = await attendedBy(context, () => scope(() => attendByPolicy(context, policy)));
    const [cells] = typeof result.cells === 'object' ? result.cells : [];
    const counted = Array.from(await cells.readNumbers()).reduce((a, b) => a + b, 0);
    expect(counted).toBe(attended.keys[0].flat().reduce((sum, keys) => sum + keys.length, 0));
  });

  it('counts 30 columns as 130', async () => {
    const [configured, meant] = [await resultOf(backend, { vertical: 30 }), await resultOf(backend, { vertical: 130 })];
    expect(configured.attended.keys).toEqual(meant.attended.keys);
  });

  it('is measured against dense dual chunk attention', async () => {
    const context = contextWithRotation(backend, prompt, {});
    const policy = dualChunkSparseMethod.create(options);
    const selector = policy.kind === 'selector' ? policy.selector : undefined;
    const reference = scope(() =>
      attendByPolicy(context, { kind: 'selector', selector: { select: () => selector?.dense?.(context) ?? 'dense' } }),
    );
    const dense = await resultOf(backend, {}, {}, true);
    expect(firstDifference(await reference.lse.readNumbers(), dense.lse, { absolute: 1e-6, relative: 1e-6 })).toBeUndefined();
    disposeContext(context);
  });

  it('asks the last queries in 6 % of the memory of keys and values, where it begins to', () => {
    const step = { keys: 32768, queries: 2048, rotary: true };
    expect(memoryOfSelecting(dualChunkSparseMethod.create({ sparseAbove: 0 }), step).scratch).toBeLessThan(0.06);
  });

  it('refuses a step of unknown length, and elements with different numbers of queries', () => {
    const policy = dualChunkSparseMethod.create(options);
    const context = contextWithRotation(backend, prompt, {});
    expect(() => scope(() => attendByPolicy({ ...context, lenK: undefined }, policy))).toThrow(ExecutionError);
    const ragged = { ...context, lenQ: [length, 100], lenK: [length, 100] };
    expect(() => scope(() => attendByPolicy(ragged, policy))).toThrow('240, 100 queries');
    disposeContext(context);
  });

  it('refuses options out of range', () => {
    expect(() => dualChunkSparseMethod.create({ chunkSize: 16, localSize: 16 })).toThrow('localSize is 16');
    expect(() => dualChunkSparseMethod.create({ lastQ: 0 })).toThrow(/dual-chunk-sparse: lastQ/);
    expect(() => dualChunkSparseMethod.create({ sparseAbove: -1 })).toThrow(/dual-chunk-sparse: sparseAbove/);
  });
});
