import { createNativeBackend } from '@filigree/backend-native';
import { createReferenceBackend, isOp, OptionError, type Backend } from '@filigree/core-tensor';
import * as coreTensor from '@filigree/core-tensor';
import * as sparseAttention from '@filigree/sparse-attention';
import { attention, attentionMethods, type AttentionMethod } from '@filigree/sparse-attention';
import { firstDifference, webGpuBackends } from '@filigree/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { disagreement } from './support/attended.js';
import type { ContextOptions } from './support/context.js';
import { methodCases } from './support/method-cases.js';
import { planted, type PlantedPrompt } from './support/planted.js';
import { recallOf } from './support/recall.js';
import { disposeOutcome, run, type Outcome } from './support/run.js';

const shape = { heads: 4, kvHeads: 2, dim: 32 };
const plantings = [{ verticals: [0, 3, 61] }, { slashes: [0, 70], verticals: [1] }];
const prompts = [320, 131].map((length, seed) => planted({ ...shape, seed, length, plantings }));
const short = [1, 2, 20].map((length, seed) => planted({ ...shape, seed: 10 + seed, length, plantings }));

interface Step {
  readonly name: string;
  readonly prompts: readonly PlantedPrompt[];
  readonly options: ContextOptions;
}

const prefillSteps: readonly Step[] = [
  { name: 'a prompt', prompts: [prompts[0]], options: {} },
  { name: 'prompts of two lengths in pages of f16', prompts, options: { pageSize: 16, dtype: 'f16', queryLayout: 'blhd' } },
  { name: 'a chunk before later keys', prompts: [prompts[0]], options: { from: [64], to: [128], pageSize: 32, spare: 40 } },
  { name: 'chunks that start anywhere', prompts, options: { from: [37, 90], to: [111, 131], queryLayout: 'blhd' } },
  { name: 'heads with a key-value map', prompts: [prompts[1]], options: { pageSize: 16, kvHeadOf: [1, 0, 1, 1] } },
  ...short.map((prompt) => ({ name: `${prompt.length} tokens`, prompts: [prompt], options: { pageSize: 4 } })),
];

const decodeSteps: readonly Step[] = [
  { name: 'a token', prompts: [prompts[0]], options: { from: [319], decode: true } },
  {
    name: 'tokens of two lengths in pages of f16',
    prompts,
    options: { from: [150, 130], to: [151, 131], pageSize: 16, dtype: 'f16', spare: 64, decode: true },
  },
  {
    name: 'a token of heads with a key-value map',
    prompts: [prompts[1]],
    options: { from: [130], pageSize: 16, kvHeadOf: [1, 0, 1, 1], decode: true },
  },
  { name: 'the second token', prompts: [short[1]], options: { from: [1], pageSize: 16, decode: true } },
];

function stepsOf({ phase }: AttentionMethod): readonly Step[] {
  return [...(phase === 'decode' ? [] : prefillSteps), ...(phase === 'prefill' ? [] : decodeSteps)];
}

/** What is wrong with the keys that queries saw, in words: a repetition, one from the future, the query's own left out. */
function misplaced({ context, attended }: Outcome): string | undefined {
  for (const [element, heads] of attended.keys.entries()) {
    const offset = (context.lenK?.[element] ?? 0) - context.lenQ[element];
    for (const [head, queries] of heads.entries()) {
      for (const [query, keys] of queries.entries()) {
        const where = `element ${element}, head ${head}, query ${query}`;
        const position = offset + query;
        const again = keys.find((key, index) => keys[index + 1] === key);
        if (again !== undefined) return `${where} sees key ${again} twice`;
        if (keys.length > 0 && keys[keys.length - 1] > position)
          return `${where} at ${position} sees key ${keys[keys.length - 1]}`;
        if (keys.length > 0 && keys[0] < 0) return `${where} sees key ${keys[0]}`;
        if (!keys.includes(position)) return `${where} does not see its own key ${position}`;
      }
    }
  }
  return undefined;
}

/** The prompt with a copy of its keys and values for every query head. */
function withOwnKeys(prompt: PlantedPrompt): PlantedPrompt {
  const { heads, kvHeads, length, dim } = prompt;
  const repeated = (rows: Float32Array): Float32Array => {
    const copies = new Float32Array(heads * length * dim);
    for (let head = 0; head < heads; head++) {
      const at = Math.floor(head / (heads / kvHeads)) * length * dim;
      copies.set(rows.subarray(at, at + length * dim), head * length * dim);
    }
    return copies;
  };
  return { ...prompt, kvHeads: heads, k: repeated(prompt.k), v: repeated(prompt.v) };
}

function caseOf({ id }: AttentionMethod): (typeof methodCases)[string] {
  if (!(id in methodCases)) throw new OptionError(`${id} has no case in support/method-cases.ts`);
  return methodCases[id];
}

const ops = [...Object.values<unknown>(coreTensor), ...Object.values<unknown>(sparseAttention)].filter(isOp);
const native = { name: 'native', create: (): Promise<Backend> => Promise.resolve(createNativeBackend({ fallback: 'error' })) };
/** On a CPU path that was asked for, that path alone: the others are no different from a run without it. */
const under = process.env['FILIGREE_CPU']
  ? [native]
  : [
      { name: 'reference', create: (): Promise<Backend> => Promise.resolve(createReferenceBackend()) },
      native,
      ...webGpuBackends()
        .filter(({ name }) => name === 'webgpu/plain')
        .map(({ name, create }) => ({ name, create: () => create(ops.filter((op) => op.webgpu !== undefined)) })),
    ];

describe.each(under)('on $name', ({ create }) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await create();
  });
  afterAll(() => {
    backend.dispose();
  });

  describe.each(attentionMethods.map((method) => [method.id, method] as const))('%s', (_, method) => {
    it.each(stepsOf(method).map((step) => [step.name, step] as const))(
      'gives brute force over what it saw: %s',
      async (__, step) => {
        const before = backend.memory().buffers;
        const outcome = await run(backend, method.create(caseOf(method).options), step.prompts, step.options);
        expect(misplaced(outcome)).toBeUndefined();
        expect(await disagreement(outcome.context, outcome, outcome.attended)).toBeUndefined();
        disposeOutcome(outcome);
        await backend.sync();
        expect(backend.memory().buffers).toBe(before);
      },
    );

    it('is dense attention at its dense extreme', async () => {
      const [step] = stepsOf(method);
      const outcome = await run(backend, method.create(caseOf(method).dense), step.prompts, step.options);
      const { q, k, v } = outcome.context;
      const expected = attention(q, k, v);
      for (const name of ['o', 'lse'] as const) {
        const [actual, dense] = [await outcome[name].readNumbers(), await expected[name].readNumbers()];
        expect(firstDifference(actual, dense, { absolute: 2e-5, relative: 2e-5 })).toBeUndefined();
        expected[name].dispose();
      }
      disposeOutcome(outcome);
    });
  });
});

describe.each(attentionMethods.map((method) => [method.id, method] as const))('%s', (_, method) => {
  const backends = [1, 2].map((threads) => createNativeBackend({ threads, fallback: 'error' }));
  afterAll(() => {
    for (const backend of backends) backend.dispose();
  });

  it('gives the same bits on one and on two threads, and again', async () => {
    const [step] = stepsOf(method);
    const policy = method.create(caseOf(method).options);
    const bits: Uint8Array[][] = [];
    for (const backend of [...backends, backends[1]]) {
      const outcome = await run(backend, policy, step.prompts, step.options);
      bits.push([await outcome.o.readBytes(), await outcome.lse.readBytes()]);
      disposeOutcome(outcome);
    }
    expect(bits[1]).toEqual(bits[0]);
    expect(bits[2]).toEqual(bits[0]);
  });

  it('gives heads that share keys what it gives heads with copies of them', async () => {
    const [step] = stepsOf(method);
    const policy = method.create(caseOf(method).options);
    const shared = await run(backends[0], policy, [prompts[0]], step.options);
    const copied = await run(backends[0], policy, [withOwnKeys(prompts[0])], step.options);
    expect(copied.attended.keys).toEqual(shared.attended.keys);
    const [actual, expected] = [await copied.o.readNumbers(), await shared.o.readNumbers()];
    expect(firstDifference(actual, expected, { absolute: 2e-5, relative: 2e-5 })).toBeUndefined();
    disposeOutcome(shared);
    disposeOutcome(copied);
  });

  it.skipIf(method.phase === 'decode')('sees the same in chunks of a prompt as in one', async () => {
    const prompt = planted({ ...shape, seed: 7, length: 256, plantings });
    const policy = method.create(caseOf(method).options);
    const whole = await run(backends[0], policy, [prompt]);
    const chunks: Outcome[] = [];
    for (const from of [0, 64, 128]) {
      const options = { from: [from], to: [from === 128 ? 256 : from + 64], pageSize: 64 };
      chunks.push(await run(backends[0], policy, [prompt], options));
    }
    for (let head = 0; head < shape.heads; head++) {
      const chunked = chunks.flatMap(({ attended }) => attended.keys[0][head]);
      if (policy.kind === 'pattern') expect(chunked).toEqual(whole.attended.keys[0][head]);
      const difference = recallOf(prompt, chunked, head) - recallOf(prompt, whole.attended.keys[0][head], head);
      expect(Math.abs(difference)).toBeLessThan(0.01);
    }
    for (const outcome of [whole, ...chunks]) disposeOutcome(outcome);
  });
});
