import { createNativeBackend } from '@filigree/backend-native';
import { ExecutionError, fromArray, keep, permute, Random, reshape, rope, scope, type Tensor } from '@filigree/core-tensor';
import { attendByPolicy, infLlmMethod, type MethodOptions } from '@filigree/sparse-attention';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { contextOf, disposeContext, type ContextOptions } from './support/context.js';
import { span } from './support/mask-keys.js';
import { memories } from './support/memories.js';
import { planted, type PlantedPrompt } from './support/planted.js';
import { exactWeights } from './support/recall.js';
import { keysSeen } from './support/run.js';

const backend = createNativeBackend({ threads: 2, fallback: 'error' });
afterAll(() => {
  backend.dispose();
});

let memory: ReturnType<typeof memories>;
beforeEach(() => {
  memory = memories();
  return () => {
    memory.dispose();
  };
});

const options = { block: 8, sinks: 8, local: 16, topK: 3, repr: 2 };
// 8 sinks, 16 newest keys, which begin anywhere in a block.
const forced = (position: number): number[] => {
  const last = Math.floor(position / 8);
  return [...span(0, 8), ...span(8 * (last - 2), position + 1)];
};

interface Steps {
  readonly options?: MethodOptions;
  readonly context?: ContextOptions;
}

/** The prompt up to the query at `position`, in steps that end there, and what the query sees, per head. */
async function seenAt(prompt: PlantedPrompt, position: number, ends: readonly number[], own: Steps = {}): Promise<number[][]> {
  const policy = infLlmMethod.create({ ...options, ...own.options });
  let start = 0;
  for (const end of ends) {
    await keysSeen(backend, policy, prompt, { from: [start], to: [end], pageSize: 4, memory, ...own.context });
    start = end;
  }
  const step = { from: [position], to: [position + 1], decode: true, pageSize: 4, memory, ...own.context };
  return (await keysSeen(backend, policy, prompt, step)).map(([query]) => query);
}

/** Blocks between the first one and the window, best first, by the definition: keys that queries paid most attention to stand for their block. */
function bestBlocks(prompt: PlantedPrompt, position: number, repr: number): number[] {
  const { heads, kvHeads, length, dim, q, k } = prompt;
  const blocks = Math.floor((position + 1 - options.local) / options.block);
  const scores = new Float64Array(blocks);
  for (let head = 0; head < heads; head++) {
    const received = new Float64Array(length);
    for (let query = 0; query < position; query++)
      for (const [key, weight] of exactWeights(prompt, head, query).entries()) received[key] += weight;
    const kvHead = Math.floor(head / (heads / kvHeads));
    for (let block = 0; block < blocks; block++) {
      const keys = span(block * 8, block * 8 + 8).sort((a, b) => received[b] - received[a]);
      for (const key of keys.slice(0, repr))
        for (let channel = 0; channel < dim; channel++)
          scores[block] += q[(head * length + position) * dim + channel] * (k[(kvHead * length + key) * dim + channel] / repr);
    }
  }
  return span(1, blocks).sort((a, b) => scores[b] - scores[a]);
}

describe('InfLLM', () => {
  const prompt = planted({ seed: 1, length: 240, heads: 4, kvHeads: 2 });

  it('sees the first and the newest keys and the blocks with the best representatives, with all heads', async () => {
    // Queries of a short prompt are one group, whose window is all before.
    for (const position of [199, 203]) {
      memory.sequence.clear();
      const seen = await seenAt(prompt, position, [position]);
      for (const keys of seen) {
        expect(keys).toEqual(seen[0]);
        expect(keys).toEqual(expect.arrayContaining(forced(position)));
        const chosen = [...new Set(keys.filter((key) => !forced(position).includes(key)).map((key) => Math.floor(key / 8)))];
        const best = bestBlocks(prompt, position, 2).filter((block) => !forced(position).includes(block * 8));
        expect(chosen).toEqual(best.slice(0, 3).sort((a, b) => a - b));
      }
    }
  });

  it('observes the same in steps that end where groups of queries do', async () => {
    const long = planted({ seed: 4, length: 600, heads: 2 });
    const once = await seenAt(long, 560, [560]);
    memory.sequence.clear();
    expect(await seenAt(long, 560, [256, 512, 560])).toEqual(once);
  });

  it('is found by what queries attended to, where the mean of a block hides it', async () => {
    const hidden = planted({ seed: 2, length: 240, heads: 2, noise: 0.4 });
    const { dim, length, k, q } = hidden;
    const direction = (of: Float32Array, row: number, factor: number): void => {
      for (let channel = 0; channel < dim; channel++) of[row * dim + channel] = channel === 0 ? factor : 0;
    };
    // One key of block 10 says yes, its others no; queries soon after it and the last one ask.
    for (const key of span(80, 88)) direction(k, key, key === 84 ? 12 : -6);
    for (const head of [0, 1]) for (const query of [90, 91, 239]) direction(q, head * length + query, 12);
    const one = { options: { topK: 1, repr: 1 } };
    for (const keys of await seenAt(hidden, 239, [239], one)) expect(keys).toContain(84);
    memory.sequence.clear();
    for (const keys of await seenAt(hidden, 239, [], one)) expect(keys).not.toContain(84);
  });

  it('sees everything while the sequence is short, and where blocks hold it', async () => {
    expect((await seenAt(prompt, 55, [55]))[0]).toEqual(span(0, 56));
    memory.sequence.clear();
    expect((await seenAt(prompt, 230, [230], { options: { topK: 40 } }))[0]).toEqual(span(0, 231));
  });

  it('compares blocks at one distance, wherever they are', async () => {
    const dim = 8;
    const turned = planted({ seed: 3, length: 240, heads: 1, dim, noise: 0 });
    const frequencies = fromArray(backend, [1, 0.4, 0.1, 0.02], [4]);
    const rotate = (x: Tensor, by: Tensor): Tensor =>
      reshape(permute(rope(permute(reshape(x, x.shape.slice(1)), [1, 0, 2]), by, frequencies), [1, 0, 2]), x.shape);
    const base = Float32Array.from({ length: dim }, () => new Random(9).nextNormal());
    // Blocks 5, 11 and 20 are longer in the direction of the query than all others, before they are turned.
    const rows = Float32Array.from({ length: 240 * dim }, (_, at) => {
      const block = Math.floor(at / dim / 8);
      return base[at % dim] * ([5, 11, 20].includes(block) ? 3 : 1);
    });
    const positions = fromArray(backend, span(0, 240), [240], 'i32');
    const keys = scope(() => keep(rotate(fromArray(backend, rows, [1, 1, 240, dim]), positions)));
    turned.k.set(await keys.readNumbers());
    const query = scope(() =>
      keep(rotate(fromArray(backend, base, [1, 1, 1, dim]), fromArray(backend, [239 - 16], [1], 'i32'))),
    );
    turned.q.set(await query.readNumbers(), 239 * dim);
    const [seen] = await seenAt(turned, 239, [239], { context: { rotate } });
    const blocks = new Set(seen.filter((key) => !forced(239).includes(key)).map((key) => Math.floor(key / 8)));
    expect([...blocks]).toEqual([5, 11, 20]);
    for (const tensor of [frequencies, positions, keys, query]) tensor.dispose();
  });

  it('sees mostly the blocks of the step before while queries turn slowly', async () => {
    const slow = planted({ seed: 5, length: 240, heads: 2 });
    const random = new Random(6);
    const { dim, length, q } = slow;
    for (const head of [0, 1])
      for (let at = (head * length + 1) * dim; at < (head + 1) * length * dim; at++)
        q[at] = 0.95 * q[at - dim] + Math.sqrt(1 - 0.95 ** 2) * 0.7 * random.nextNormal();
    let [before, hits, lookups] = [await seenAt(slow, 200, [200]), 0, 0];
    for (const position of span(201, 232)) {
      const seen = await seenAt(slow, position, []);
      const blocks = (keys: readonly number[]): Set<number> => new Set(keys.map((key) => Math.floor(key / 8)));
      const held = blocks(before[0]);
      for (const block of blocks(seen[0].filter((key) => !forced(position).includes(key)))) {
        lookups++;
        if (held.has(block)) hits++;
      }
      before = seen;
    }
    expect(lookups).toBe(31 * 3);
    expect(hits / lookups).toBeGreaterThan(0.7);
  });

  it('begins anew where it did not see the keys before', async () => {
    const fresh = await seenAt(prompt, 220, []);
    memory.sequence.clear();
    await seenAt(prompt, 150, [150]);
    // Keys from 151 on came without it.
    expect(await seenAt(prompt, 220, [])).toEqual(fresh);
  });

  it('gives what it observed back', async () => {
    await backend.sync();
    const before = backend.memory().buffers;
    await seenAt(prompt, 200, [100, 200]);
    memory.sequence.clear();
    await backend.sync();
    expect(backend.memory().buffers).toBe(before);
  });

  it('refuses steps of unknown length, and sizes that are none', () => {
    const context = contextOf(backend, [prompt], { from: [239], decode: true });
    const policy = infLlmMethod.create(options);
    expect(() => scope(() => attendByPolicy({ ...context, lenK: undefined }, policy))).toThrow(ExecutionError);
    disposeContext(context);
    for (const wrong of [{ block: 0 }, { local: 0 }, { repr: 0 }, { sinks: -1 }, { topK: 0.5 }])
      expect(() => infLlmMethod.create(wrong)).toThrow(`inf-llm: ${Object.keys(wrong)[0]} is`);
  });
});
