import type { ByteSink } from '@filigree/checkpoint';
import { DisposedError, keep, OptionError, throwIfAborted, type Tensor } from '@filigree/core-tensor';
import { CodedCache, type Compressor, type KvBytes } from '@filigree/kv-cache';
import { phaseAttention, type AttentionOptions } from '../attention/attention-choice.js';
import { StatsReader, type AttentionMeasure, type AttentionStats } from '../attention/attention-stats.js';
import { ContextLengthError } from '../errors.js';
import { newestQueries } from '../kv/compress-cache.js';
import { kvCompressor, type KvChoice } from '../kv/kv-choice.js';
import { LayerQueries } from '../kv/newest-queries.js';
import { pageSize } from '../kv/page-size.js';
import type { Model } from './model.js';
import { savePrefix, type SavePrefixOptions } from './prefix-file.js';
import { computed, type Session } from './session.js';

/** How much of a prompt was read. */
export interface PrefillProgress {
  readonly doneTokens: number;
  readonly totalTokens: number;
}

export interface PrefillOptions {
  readonly signal?: AbortSignal | undefined;
  /** Sparse attention over the tokens; only `prefill` applies. Layers with a window of their own keep it. */
  readonly attention?: AttentionOptions | undefined;
  /** Tokens that one step takes; default 512, with a selector 2,048. */
  readonly prefillChunk?: number | undefined;
  /** Positions that all continuations which are alive at a time may take together; default 1,024, at most what the context leaves. */
  readonly room?: number | undefined;
  readonly measure?: AttentionMeasure | undefined;
  /**
   * Keeps less of the prompt, once a layer has read it: see `kvMethods` of @filigree/kv-cache. Continuations attend densely to what was kept. Not together with `attention`.
   */
  readonly kv?: KvChoice | undefined;
  /** Called after every step but the last. */
  readonly onPrefill?: ((progress: PrefillProgress) => void) | undefined;
}

export interface ContinuationOptions {
  readonly signal?: AbortSignal | undefined;
  /** Sparse attention of the continuation's queries, over the prefix too. */
  readonly attention?: AttentionOptions | undefined;
  /** `prefill`: in steps of many tokens under `attention.prefill`. `decode`: token by token under `attention.decode`. Default `prefill`. */
  readonly phase?: 'prefill' | 'decode' | undefined;
  readonly prefillChunk?: number | undefined;
}

export interface PrefixStats extends AttentionStats {
  readonly prefillMs: number;
}

/**
 * Tokens that were read once and are continued many times: continuations share the pages of its keys and values and write into pages of
 * their own. Made by {@link Model.prefill}; goes into `generate` in place of the model. Continuations may run at the same time. One that is under way
 * survives `dispose()`; its pages go back with the last of them.
 */
export class Prefix {
  #disposed = false;

  constructor(
    readonly model: Model,
    readonly tokens: readonly number[],
    /** f32 [1, vocabulary]: logits of the token that comes next. Belongs to the prefix. */
    readonly next: Tensor,
    readonly stats: PrefixStats,
    private readonly session: Session,
  ) {}

  get length(): number {
    return this.tokens.length;
  }

  /** Bytes of its keys and values, in whole pages; `shared` are those that continuations use too. */
  bytes(): KvBytes {
    if (this.#disposed) throw new DisposedError('Prefix: used after dispose()');
    return this.session.cache.bytes();
  }

  /** A sequence that goes on from here; its caller disposes it. The signal is looked at between steps. */
  fork(signal?: AbortSignal): Session {
    if (this.#disposed) throw new DisposedError('Prefix: used after dispose()');
    return this.session.fork(signal);
  }

  /**
   * Reads more tokens: a prefix in its own right, in the same room, which outlives this one. With `kv` all that was read so far is cut down then, into
   * a cache of its own with room for `room` more positions (default 1,024): so methods that look at the question see it. They see no more queries than the
   * tokens read here.
   */
  async extend(tokens: ArrayLike<number>, options: PrefillOptions = {}): Promise<Prefix> {
    const { signal, kv, room = 1024 } = options;
    const ids = this.#continuation(tokens, 'Prefix.extend');
    const compressor = kv && kvCompressor(kv, 'Prefix.extend');
    const wanted = compressor && newestQueries(compressor, 'Prefix.extend');
    throwIfAborted(signal);
    const session = this.fork(signal);
    if (!compressor || wanted === undefined) return readPrefix(this.model, session, { before: this.tokens, ids }, options);
    const length = this.length + ids.length;
    return extendCompressed(
      this.model,
      session,
      { before: this.tokens, ids, compressor, wanted, capacity: length + room + pageSize },
      options,
    );
  }

  /**
   * Logits [tokens, vocabulary] f32 of a teacher-forced continuation: row i predicts what follows token i; {@link next} predicts token 0. The
   * caller disposes them.
   * @throws ContextLengthError, KvCapacityError, OptionError, AbortError
   */
  async logits(tokens: ArrayLike<number>, options: ContinuationOptions = {}): Promise<Tensor> {
    const { signal, attention, phase = 'prefill', prefillChunk } = options;
    const ids = this.#continuation(tokens, 'Prefix.logits');
    const layers = phaseAttention(attention, phase, this.model.config, 'Prefix.logits');
    throwIfAborted(signal);
    const session = this.fork(signal);
    try {
      if (phase === 'decode') return await computed(session.forced(ids, layers));
      return await computed(session.prefill(ids, { logits: 'all', attention: layers, chunk: prefillChunk }));
    } finally {
      session.dispose();
    }
  }

  /**
   * Writes keys and values, tokens and the logits after them to a file or a sink, to go on from later: {@link Model.loadPrefix}. A path is only replaced by
   * a whole file. The prefix must not be disposed meanwhile.
   *
   * @throws SinkWriteError, AbortError
   */
  async save(target: string | ByteSink, options: SavePrefixOptions = {}): Promise<void> {
    if (this.#disposed) throw new DisposedError('Prefix: used after dispose()');
    const { cache } = this.session;
    if (cache instanceof CodedCache)
      throw new OptionError('Prefix.save: a coded cache cannot be saved; load the model with kvType f16');
    await savePrefix(target, cache, this, options);
  }

  /** Gives its pages back, once no continuation uses them. Safe to call twice. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.next.dispose();
    this.session.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #continuation(tokens: ArrayLike<number>, caller: string): number[] {
    const ids = this.model.checkTokens(tokens, caller);
    if (this.length + ids.length > this.model.context)
      throw new ContextLengthError(
        `${caller}: ${ids.length} tokens after ${this.length} do not fit into the context of ${this.model.context}`,
      );
    return ids;
  }
}

/** Reads `ids` with a session, which becomes the prefix's or is disposed. */
export async function readPrefix(
  model: Model,
  session: Session,
  {
    before,
    ids,
    onQueries,
  }: {
    readonly before: readonly number[];
    readonly ids: readonly number[];
    readonly onQueries?: (layer: number, q: Tensor) => void;
  },
  { attention, prefillChunk, onPrefill, measure }: Omit<PrefillOptions, 'room' | 'kv'>,
): Promise<Prefix> {
  try {
    const layers = phaseAttention(attention, 'prefill', model.config, 'prefill');
    const onChunk = onPrefill && ((doneTokens: number) => onPrefill({ doneTokens, totalTokens: ids.length }));
    const steps = {
      logits: 'last' as const,
      attention: layers,
      chunk: prefillChunk,
      onChunk,
      onQueries,
      recall: measure?.recall,
    };
    const stats = new StatsReader(session, measure);
    const started = performance.now();
    const next = await stats.during(() => computed(session.prefill(ids, steps)));
    const prefillMs = performance.now() - started;
    try {
      return new Prefix(model, [...before, ...ids], next, { prefillMs, ...(await stats.read()) }, session);
    } catch (error) {
      next.dispose();
      throw error;
    }
  } catch (error) {
    session.dispose();
    throw error;
  }
}

/** Reads `ids` with a session of all entries, cuts everything down, and disposes the session. */
async function extendCompressed(
  model: Model,
  session: Session,
  {
    before,
    ids,
    compressor,
    wanted,
    capacity,
  }: {
    readonly before: readonly number[];
    readonly ids: readonly number[];
    readonly compressor: Compressor;
    /** Queries that the compressor looks at. */
    readonly wanted: number;
    readonly capacity: number;
  },
  options: Omit<PrefillOptions, 'room' | 'kv'>,
): Promise<Prefix> {
  const queries = new LayerQueries(model, wanted);
  let read: Prefix | undefined;
  try {
    read = await readPrefix(model, session, { before, ids, onQueries: queries.collect }, options);
    const into = model.streamCache(before.length + ids.length, capacity, compressor);
    const compressed = await session.compress(into, compressor, queries, options.signal);
    const next = keep(read.next.view(read.next.shape, read.next.offset));
    return new Prefix(model, [...before, ...ids], next, read.stats, compressed);
  } finally {
    queries.dispose();
    // What failed before has disposed the session.
    read?.dispose();
  }
}
