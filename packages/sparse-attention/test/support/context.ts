import { fromArray, Random, type Backend, type Tensor } from '@filigree/core-tensor';
import type { LayerInfo, QueryLayout, SelectContext, SelectionMemories, Selector } from '@filigree/sparse-attention';
import type { PlantedPrompt } from './planted.js';

export interface ContextOptions {
  /** Queries `from … to` of every prompt are the step; default the whole prompt. Keys before `to` are cached. */
  readonly from?: readonly number[];
  readonly to?: readonly number[];
  /** Entries per page, of pages in no order; without it keys are contiguous. */
  readonly pageSize?: number | undefined;
  readonly dtype?: 'f32' | 'f16';
  readonly queryLayout?: QueryLayout;
  /** Entries that the cache has room for beyond the longest prompt. */
  readonly spare?: number;
  readonly decode?: boolean;
  /** Key-value head of every query head; default contiguous groups. */
  readonly kvHeadOf?: readonly number[];
  /** Default 0 of one. */
  readonly layer?: number;
  readonly layers?: number;
  readonly memory?: SelectionMemories;
  /** As the context's; default none. */
  readonly rotate?: SelectContext['rotate'];
}

/** What rows hold that nothing may look at: attention to one of them shows in every result. */
const junk = 6;

/** A step of prompts of one shape, one per batch element, as a model would give it to a policy. Keys after `to` hold later tokens or junk. */
export function contextOf(backend: Backend, prompts: readonly PlantedPrompt[], options: ContextOptions = {}): SelectContext {
  const { pageSize, dtype = 'f32', queryLayout = 'bhld', spare = 0, decode = false } = options;
  const to = options.to ?? prompts.map(({ length }) => length);
  const from = options.from ?? to.map(() => 0);
  const lenQ = to.map((end, element) => end - from[element]);
  const longest = Math.max(...prompts.map(({ length }) => length)) + spare;
  const pages = pagesFor(prompts.length, longest, pageSize);
  const numbers = (values: readonly number[], shape: number[]): Tensor => fromArray(backend, values, shape, 'i32');
  const rows = (of: 'k' | 'v'): Tensor => {
    const [{ kvHeads, dim }] = prompts;
    const data = new Float32Array(pages.count * kvHeads * pages.size * dim).fill(junk);
    for (const [element, prompt] of prompts.entries()) {
      for (let head = 0; head < kvHeads; head++) {
        for (let position = 0; position < prompt.length; position++) {
          const at = (head * prompt.length + position) * dim;
          const { page, entry } = pages.place(element, position);
          data.set(prompt[of].subarray(at, at + dim), ((page * kvHeads + head) * pages.size + entry) * dim);
        }
      }
    }
    return fromArray(backend, data, [pages.count, kvHeads, pages.size, dim], dtype);
  };
  return {
    layer: options.layer ?? 0,
    layers: options.layers ?? 1,
    memory: options.memory,
    q: queriesOf(backend, prompts, from, lenQ, queryLayout),
    queryLayout,
    k: rows('k'),
    v: rows('v'),
    table: pages.table && numbers(pages.table.flat(), [prompts.length, pages.table[0].length]),
    lengths: numbers(
      to.flatMap((end, element) => [lenQ[element], end]),
      [prompts.length, 2],
    ),
    lengthsK: numbers(to, [prompts.length]),
    lenQ,
    lenK: to,
    promptEnd: decode ? undefined : prompts.map(({ length }) => length),
    kvMap: options.kvHeadOf && numbers(options.kvHeadOf, [options.kvHeadOf.length]),
    kvHeadOf: options.kvHeadOf,
    scale: 1 / Math.sqrt(prompts[0].dim),
    softcap: 0,
    rotate: options.rotate,
  };
}

interface Pages {
  readonly count: number;
  readonly size: number;
  readonly table: number[][] | undefined;
  place(element: number, position: number): { page: number; entry: number };
}

/** Pages in a seeded order with one that nobody uses; without a page size, one page per element. */
function pagesFor(batch: number, longest: number, size: number | undefined): Pages {
  if (size === undefined) {
    return {
      count: batch,
      size: longest,
      table: undefined,
      place: (element, position) => ({ page: element, entry: position }),
    };
  }
  const each = Math.ceil(longest / size);
  const ids = Array.from({ length: batch * each + 1 }, (_, index) => index);
  const random = new Random(5);
  for (let index = ids.length - 1; index > 0; index--) {
    const other = random.nextInt(index + 1);
    [ids[index], ids[other]] = [ids[other], ids[index]];
  }
  const table = Array.from({ length: batch }, (_, element) => ids.slice(element * each, (element + 1) * each));
  return {
    count: ids.length,
    size,
    table,
    place: (element, position) => ({ page: table[element][Math.floor(position / size)], entry: position % size }),
  };
}

function queriesOf(
  backend: Backend,
  prompts: readonly PlantedPrompt[],
  from: readonly number[],
  lenQ: readonly number[],
  layout: QueryLayout,
): Tensor {
  const [{ heads, dim }] = prompts;
  const most = Math.max(...lenQ);
  const data = new Float32Array(prompts.length * heads * most * dim).fill(junk);
  for (const [element, prompt] of prompts.entries()) {
    for (let head = 0; head < heads; head++) {
      for (let query = 0; query < lenQ[element]; query++) {
        const source = (head * prompt.length + from[element] + query) * dim;
        const row = layout === 'bhld' ? (element * heads + head) * most + query : (element * most + query) * heads + head;
        data.set(prompt.q.subarray(source, source + dim), row * dim);
      }
    }
  }
  const shape = layout === 'bhld' ? [prompts.length, heads, most, dim] : [prompts.length, most, heads, dim];
  return fromArray(backend, data, shape);
}

/** State of a selector whose cache was filled with the keys before `to`, in steps of `step` tokens as a model writes them. */
export function stateFor(selector: Selector, prompts: readonly PlantedPrompt[], context: SelectContext, step = 64): unknown {
  const [{ heads, kvHeads, dim }] = prompts;
  const { backend } = context.k;
  const [pages, , pageSize] = context.k.shape;
  const dtype = context.k.dtype === 'f16' ? 'f16' : 'f32';
  const state = selector.init?.({
    backend,
    layer: 0,
    layers: 1,
    heads,
    kvHeads,
    headDim: dim,
    pages,
    pageSize,
    dtype,
  } satisfies LayerInfo);
  const placed = pagesFor(prompts.length, pagesLongest(context), context.table ? pageSize : undefined);
  for (const [element, prompt] of prompts.entries()) {
    const length = context.lenK?.[element] ?? prompt.length;
    for (let start = 0; start < length; start += step) {
      const count = Math.min(step, length - start);
      const keys = new Float32Array(count * kvHeads * dim);
      const slots: number[] = [];
      for (let token = 0; token < count; token++) {
        const { page, entry } = placed.place(element, start + token);
        slots.push(page * pageSize + entry);
        for (let head = 0; head < kvHeads; head++) {
          const at = (head * prompt.length + start + token) * dim;
          keys.set(prompt.k.subarray(at, at + dim), (token * kvHeads + head) * dim);
        }
      }
      const k = fromArray(backend, keys, [count, kvHeads, dim]);
      const at = fromArray(backend, slots, [count], 'i32');
      selector.append?.(state, { k, pages: context.k, slots: at });
      k.dispose();
      at.dispose();
    }
  }
  return state;
}

/** Entries of the longest element the pages were laid out for. */
function pagesLongest({ k, table }: SelectContext): number {
  return table ? table.shape[1] * k.shape[2] : k.shape[2];
}

/** Releases what {@link contextOf} made. */
export function disposeContext({ q, k, v, table, lengths, lengthsK, kvMap }: SelectContext): void {
  for (const tensor of [q, k, v, table, lengths, lengthsK, kvMap]) tensor?.dispose();
}
