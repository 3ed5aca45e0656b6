import { OptionError, type Backend, type Tensor } from '@filigree/core-tensor';
import { perHead, type Allocation } from './allocate.js';
import type { RepeatPass } from './repeat-pass.js';
import { expectNumbers, groupRows, poolRows, readRows, type GroupReduction, type Pooling } from './rows.js';

/**
 * A layer whose prompt was read, with all its entries; or heads of one that have grown since. What is kept of a prompt is taken from `k` and `v` after the decision,
 * which may have changed rows in place.
 */
export interface CompressContext {
  readonly backend: Backend;
  readonly layer: number;
  readonly layers: number;
  /** Query heads; query head h reads key-value head floor(h / (heads / kvHeads)). */
  readonly heads: number;
  readonly kvHeads: number;
  /** Entries; those of a prompt are at positions 0 … length − 1. */
  readonly length: number;
  /** [Hk, length, D], rotated by their positions, f32 or f16. */
  readonly k: Tensor;
  /** [Hk, length, Dv], dtype of k. */
  readonly v: Tensor;
  /** [Hk][length]: what is added to the scores of entries, for a decision to change in place. Undefined where there is no place for it. */
  readonly bias?: readonly Float32Array[] | undefined;
  /** [Hk][length]: attention that entries received before, to which a decision that {@link Compressor.accumulates} adds in place. */
  readonly received?: readonly Float32Array[] | undefined;
  /** f32 [1, n, Hq, D]: the queries that {@link Compressor.queries} asks for, the last n of the prompt, rotated. */
  readonly q: Tensor;
  readonly scale: number;
  readonly softcap: number;
  /** Entries that every head is to keep, where that is not what the budget says of the length. */
  readonly entries?: number | undefined;
  /** Of a cascade: what layers before found of the entries that are left, which it adds to. */
  readonly importance?: Float64Array | undefined;
  /** Turns queries or keys [n, heads, D] from their positions back to position 0, or by any other distances: by i32 [n]. */
  readonly rotate: (x: Tensor, by: Tensor) => Tensor;
  /** f32 [Hq, Dv, hidden], made for the caller: what a channel of a query head's values adds to the residual stream. */
  readonly outputWeight?: (() => Tensor) | undefined;
}

/** Entries that every head keeps: ascending ids. */
export type Kept = readonly Uint32Array[];

/** Decides, once a layer has read the prompt, which of its entries stay. */
export interface Compressor {
  readonly id: string;
  /** Queries at the end of the prompt that the decision looks at. */
  readonly queries: number | 'all';
  /** Whether what is kept serves any question that may follow. Where it does not, the prompt must end in the question. */
  readonly queryAgnostic: boolean;
  /** Whether it can decide about entries in the order of their positions when some before were evicted. */
  readonly decodes?: boolean | undefined;
  /** Whether tokens that a layer drops are gone for later layers too: their hidden states are no longer computed. All heads keep the same entries then. */
  readonly cascade?: boolean | undefined;
  /** Whether it decides by what all queries so far paid attention to: while decoding it looks at those since it last decided. */
  readonly accumulates?: boolean | undefined;
  /** Entries per key-value head and layer that the decision leaves of a prompt, on average over the heads of the layer. */
  budget(length: number, layer: number, layers: number): number;
  /** How the prompt is read once more, where a decision needs that; layers are not compressed one by one then. */
  readonly repeat?: RepeatPass | undefined;
  /** @throws ExecutionError when a score is NaN. */
  compress(context: CompressContext): Promise<Kept>;
}

/** Biases that a decision may change. @throws OptionError where there is no place for them. */
export function biasesOf(method: string, { bias }: CompressContext): readonly Float32Array[] {
  if (bias) return bias;
  throw new OptionError(`${method}: there is no place for biases here; leave them out, or use it on a whole prompt`);
}

/** A compressor that says what it is made of, so that others can be made of the same. */
export interface ScoredCompressor extends Compressor {
  readonly parts: CompressorParts;
}

/** Scores of entries, f32 [Hq or Hk, length]: larger is kept. Called in a scope of its own. */
export type Score = (context: CompressContext) => Tensor;

/** Entries per key-value head of a layer that a prompt of `length` is cut to. */
export type Budget = (length: number, layer: number, layers: number) => number;

/** Scores that need numbers on the host in between: the same rows, whose tensors are its own to dispose. */
export interface HostScore {
  rows(context: CompressContext): Promise<readonly Float32Array[]>;
}

export interface Protection {
  readonly sinks?: number | undefined;
  /** A number, or one that depends on the entries that are kept. */
  readonly recent?: number | ((entries: number) => number) | undefined;
}

export interface CompressorParts {
  readonly id: string;
  readonly queries: number | 'all';
  readonly queryAgnostic: boolean;
  /** Whether the score depends on the order of entries alone, and not on where they were in the prompt. Default false. */
  readonly decodes?: boolean | undefined;
  /** As {@link Compressor.accumulates}: scores of entries add up. Default false. */
  readonly accumulates?: boolean | undefined;
  readonly score: Score | HostScore;
  readonly budget: Budget;
  /** How scores of the query heads of a group become one. */
  readonly group?: GroupReduction | undefined;
  /** Smooths scores along the entries before a choice is made. */
  readonly pooling?: Pooling | undefined;
  /** Entries that are kept whatever they score, at both ends. */
  readonly protect?: Protection | undefined;
  /** Who shares a budget: default each head by itself. */
  readonly allocation?: Allocation | undefined;
}

/**
 * Eviction as score × budget × protection: entries at both ends stay, of the rest those with the largest scores, ties for the lower id. A prompt
 * within the budget is kept whole.
 *
 * @throws OptionError when a protected span is no non-negative integer.
 */
export function compressor(parts: CompressorParts): ScoredCompressor {
  const { id, queries, queryAgnostic, score, budget, group = 'mean', pooling, protect = {}, allocation = perHead } = parts;
  const { sinks = 0, recent = 0 } = protect;
  for (const [name, value] of Object.entries({ sinks, recent })) {
    if (typeof value === 'number' && (!Number.isInteger(value) || value < 0))
      throw new OptionError(`${id}: ${name} is ${value}, it must be a non-negative integer`);
  }
  return {
    id,
    queries,
    queryAgnostic,
    decodes: parts.decodes,
    accumulates: parts.accumulates,
    budget,
    parts,
    async compress(context) {
      const { length, layer, layers, kvHeads } = context;
      const entries = Math.min(length, context.entries ?? budget(length, layer, layers));
      if (entries >= length) return Array.from({ length: kvHeads }, () => Uint32Array.from({ length }, (_, index) => index));
      const [first, last] = protectedSpans(length, entries, {
        sinks,
        recent: typeof recent === 'number' ? recent : recent(entries),
      });
      const found = groupRows(await readScores(id, score, context), kvHeads, group);
      const rows = parts.accumulates ? accumulated(found, context.received) : found;
      const open = rows.map((row) => poolRows(row.subarray(first, last), pooling));
      const chosen = await allocation(open, entries - first - (length - last), { context, first, last });
      return chosen.map((ids) => {
        const kept = new Uint32Array(first + ids.length + length - last);
        for (let index = 0; index < first; index++) kept[index] = index;
        for (const [index, entry] of ids.entries()) kept[first + index] = first + entry;
        for (let index = last; index < length; index++) kept[first + ids.length + index - last] = index;
        return kept;
      });
    },
  };
}

/** Where the entries between the protected ones begin and end. Newest ones go first where the budget does not hold both ends. */
function protectedSpans(
  length: number,
  entries: number,
  { sinks, recent }: { readonly sinks: number; readonly recent: number },
): [first: number, last: number] {
  const newest = Math.min(recent, entries);
  return [Math.min(sinks, entries - newest), length - newest];
}

/** Scores with those from before, which they are added to. */
function accumulated(rows: readonly Float32Array[], before: readonly Float32Array[] | undefined): readonly Float32Array[] {
  if (!before) return rows;
  for (const [head, row] of rows.entries()) for (const [entry, score] of row.entries()) before[head][entry] += score;
  return before;
}

async function readScores(id: string, score: Score | HostScore, context: CompressContext): Promise<readonly Float32Array[]> {
  const rows = typeof score === 'function' ? await readRows(() => score(context), context.length) : await score.rows(context);
  expectNumbers(id, context.layer, rows);
  return rows;
}
