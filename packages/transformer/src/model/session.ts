import {
  argMax,
  concat,
  empty,
  fromArray,
  keep,
  OptionError,
  reshape,
  scope,
  takeAlongAxis,
  throwIfAborted,
  writeSlice,
  type Backend,
  type Recording,
  type Tensor,
} from '@filigree/core-tensor';
import { CodedCache, KvCache, StreamCache, type Compressor } from '@filigree/kv-cache';
import { awaitsHost, needsLengths, type PhaseAttention } from '../attention/attention-choice.js';
import type { AttentionMeter, CountEntry } from '../attention/attention-meter.js';
import type { PatternPlans, StepSpan } from '../attention/pattern-plans.js';
import { SequenceAttention } from '../attention/sequence-attention.js';
import { CodedKv } from '../kv/coded-kv.js';
import { compressCache } from '../kv/compress-cache.js';
import { compressedPrefill } from '../kv/compressed-prefill.js';
import { DecodeEviction } from '../kv/decode-eviction.js';
import type { LayerQueries } from '../kv/newest-queries.js';
import { repeatedPrefill } from '../kv/repeated-prefill.js';
import { DenseKv, type SequenceKv, type StepKv } from '../kv/sequence-kv.js';
import { StreamKv } from '../kv/stream-kv.js';
import type { Decoder, LogitRows } from './decoder.js';
import type { Hooks } from './hooks.js';

/** Tokens that one prefill step takes. */
export const chunkTokens = 512;

/** Tokens of a step under a selector, whose estimates cost per step as much as per token. */
export const selectorChunkTokens = 2048;

export interface SessionStep {
  readonly logits: LogitRows;
  /** What the layers do; undefined: all dense. */
  readonly attention?: PhaseAttention | undefined;
  /** Positions of the whole prompt that this step is a part of. */
  readonly promptEnd?: number | undefined;
  readonly hooks?: Hooks | undefined;
  /** Compares every layer that is not dense with dense attention, for the meter. */
  readonly recall?: boolean | undefined;
  /** Is shown the queries of every layer, [1, T, Hq, D], rotated. */
  readonly onQueries?: ((layer: number, q: Tensor) => void) | undefined;
}

export interface SessionPrefill extends Omit<SessionStep, 'logits' | 'promptEnd'> {
  /** Rows that get logits: of the last token, or of all. */
  readonly logits: 'last' | 'all';
  /** Tokens of a step; default {@link chunkTokens}, more with a selector. */
  readonly chunk?: number | undefined;
  /** Called after every step but the last, with the tokens read so far. */
  readonly onChunk?: ((doneTokens: number) => void) | undefined;
}

/** What becomes of the prompt that a sequence begins with. */
export interface PromptCompression extends Compression {
  /** Ids of a text that stands within the prompt. */
  readonly tokenize: (text: string) => readonly number[];
}

/** What a decode step gives, on the device. */
export interface NextLogits {
  /** [1, vocabulary]. */
  readonly logits: Tensor;
  /** i32 [1]: the most likely token. */
  readonly best: Tensor;
  /** [1, 1]: its logit, which is NaN or infinite when any is. */
  readonly value: Tensor;
}

/** Ids, what the cache reserved, and plans. */
type DecodeInputs = readonly [ids: Tensor, ...reservedAndPlans: Tensor[]];

/** What a decode step gives beside its logits: counts of selectors, and queries [layers, Hq, D] for those who ask. */
interface Decoded extends NextLogits {
  readonly counts?: Tensor | undefined;
  readonly queries?: Tensor | undefined;
}

/** How a prompt is cut down, and how often that is done again while tokens come. */
export interface Compression {
  readonly compressor: Compressor;
  readonly every?: number | undefined;
}

/** A decode step that was recorded, and what it is for. */
interface RecordedDecode {
  readonly attention: PhaseAttention | undefined;
  /** Heads of the step's plans, and shapes of the cache. */
  readonly shapes: string;
  readonly recording: Recording<DecodeInputs, Decoded>;
  /** What the step counts on the device, and the heads that attend densely in it. */
  counted: { readonly entries: readonly CountEntry[]; readonly denseHeads: readonly number[] };
}

/** Caches that a sequence may have: all entries, those that each head keeps, or old ones as codes. */
export type SequenceCache = KvCache | StreamCache | CodedCache;

function sequenceKv(cache: SequenceCache): SequenceKv {
  if (cache instanceof StreamCache) return new StreamKv(cache);
  return cache instanceof CodedCache ? new CodedKv(cache) : new DenseKv(cache);
}

/** One sequence: a cache, and the steps that extend it. */
export class Session {
  readonly #attention: SequenceAttention;
  readonly #kv: SequenceKv;
  #decode: RecordedDecode | undefined;
  #eviction: DecodeEviction | undefined;

  /**
   * @param compression cuts the prompt that an empty {@link StreamCache} begins with.
   * @param shared whether the pages are others' too.
   */
  constructor(
    readonly decoder: Decoder,
    readonly cache: SequenceCache,
    readonly signal: AbortSignal | undefined,
    private readonly compression?: PromptCompression,
    private readonly shared = false,
  ) {
    this.#attention = new SequenceAttention(decoder.config, cache);
    this.#kv = sequenceKv(cache);
  }

  get backend(): Backend {
    return this.decoder.backend;
  }

  get meter(): AttentionMeter {
    return this.#attention.meter;
  }

  /**
   * A sequence that goes on from here in the same pages. Its signal is looked at between steps and drops no work that was queued: what an
   * aborted op would have written counts as lost, and the pages are others' too.
   */
  fork(signal: AbortSignal | undefined): Session {
    const { cache } = this;
    if (!(cache instanceof StreamCache)) return new Session(this.decoder, cache.fork(), signal, undefined, true);
    const own = cache.fork();
    const child = new Session(this.decoder, own, signal, undefined, true);
    child.#eviction = this.#eviction?.fork(own);
    return child;
  }

  /** Reads tokens in steps of `chunk`; resolves with the logits, [1 or tokens, vocabulary], once all steps are queued. The caller disposes them. */
  async prefill(tokens: readonly number[], options: SessionPrefill): Promise<Tensor> {
    const { logits: rows, chunk = defaultChunk(options.attention), onChunk, ...step } = options;
    if (!Number.isInteger(chunk) || chunk < 1)
      throw new OptionError(`prefill: a chunk is ${chunk} tokens, it must be a positive integer`);
    const { compression, cache } = this;
    // Raw pages of a coded cache hold a step and no more.
    if (cache instanceof CodedCache && chunk > chunkTokens) return this.prefill(tokens, { ...options, chunk: chunkTokens });
    if (compression && cache instanceof StreamCache && this.#kv.end === 0)
      return this.#compressed(tokens, { ...options, compression, cache, chunk });
    const promptEnd = this.#kv.end + tokens.length;
    let all: Tensor | undefined;
    try {
      for (let start = 0; ; start += chunk) {
        const part = tokens.slice(start, start + chunk);
        const last = start + chunk >= tokens.length;
        const logits = this.step(part, { ...step, logits: rows === 'all' || last ? rows : 'none', promptEnd });
        if (logits && last && start === 0) all = logits;
        else if (logits && rows === 'all') {
          all ??= keep(empty(this.backend, [tokens.length, logits.shape[1]], 'f32'));
          writeSlice(all, logits, { axis: 0, start });
          logits.dispose();
        } else if (logits) all = logits;
        if (last && cache instanceof CodedCache) cache.encodeOld();
        if (last && all) return all;
        await this.backend.ready();
        onChunk?.(start + part.length);
        throwIfAborted(this.signal);
      }
    } catch (error) {
      all?.dispose();
      throw error;
    }
  }

  /** Logits [tokens, vocabulary] of tokens that are run one by one, as `generate` does. */
  async forced(tokens: readonly number[], attention: PhaseAttention | undefined): Promise<Tensor> {
    const all = keep(empty(this.backend, [tokens.length, this.decoder.config.vocabularySize], 'f32'));
    try {
      for (const [index, token] of tokens.entries()) {
        const { logits, best, value } = await this.next([token], attention);
        writeSlice(all, logits, { axis: 0, start: index });
        for (const tensor of [logits, best, value]) tensor.dispose();
        await this.backend.ready();
        throwIfAborted(this.signal);
        await this.settle();
      }
      return all;
    } catch (error) {
      all.dispose();
      throw error;
    }
  }

  /** Queues a step over ids on the host or on the device (i32 [T]); undefined when no logits are asked for. */
  step(tokens: readonly number[] | Tensor, step: SessionStep): Tensor | undefined {
    const { logits, attention, promptEnd, hooks, recall = false, onQueries } = step;
    return this.#withIds(tokens, (ids) =>
      scope(() => {
        const [count] = ids.shape;
        const span = { start: this.#kv.end, count, promptEnd };
        if (!attention) {
          const kv = this.#kv.step(this.#kv.reserve(count));
          this.#countDense(span);
          return this.decoder.step(ids, { kv, logits, hooks, onQueries });
        }
        this.#expectDense();
        const plans = this.#attention.plan(attention, span, { recorded: false });
        const kv = this.#kv.step(this.#kv.reserve(count));
        this.#attention.prepare(attention, plans, span);
        const uploaded = this.#attention.upload(plans);
        const lenK = span.start + count;
        const attend = this.#attention.step(attention, plans, uploaded, { count, promptEnd, lenK, recall });
        try {
          const result = this.decoder.step(ids, { kv, logits, attention: attend, hooks, onQueries });
          const counts = attend.counts();
          if (counts) this.meter.addOnDevice(counts);
          this.#attention.count(span, { phase: attention, plans, denseHeads: attend.denseHeads, recall });
          return result;
        } finally {
          attend.dispose();
          for (const plan of uploaded) plan.dispose();
        }
      }),
    );
  }

  /** Queues the step of one token, recorded once and replayed where its shapes stay the same. */
  decode(token: readonly number[] | Tensor, attention?: PhaseAttention): NextLogits {
    if (attention && needsLengths(attention)) {
      const logits = this.step(token, { logits: 'last', attention });
      if (logits) return nextLogits(logits);
    }
    return this.#withIds(token, (ids) => {
      if (attention) this.#expectDense();
      const span = { start: this.#kv.end, count: 1, promptEnd: undefined };
      const plans = attention && this.#attention.plan(attention, span, { recorded: true });
      const reserved = this.#kv.reserve(1);
      if (attention && plans) this.#attention.prepare(attention, plans, span);
      const uploaded = plans ? this.#attention.upload(plans) : [];
      try {
        const recorded = this.#recorded(attention, plans, reserved.length);
        const { counts, queries, ...next } = recorded.recording.replay(ids, ...reserved, ...uploaded);
        if (queries) this.#eviction?.observe(keep(queries));
        this.#countDecode(recorded, span, plans, counts);
        return next;
      } finally {
        for (const plan of uploaded) plan.dispose();
      }
    });
  }

  /** As `decode`, for methods too that wait for the host in every layer. Others are queued at once, so that a read can go with them. */
  next(token: readonly number[] | Tensor, attention?: PhaseAttention): NextLogits | Promise<NextLogits> {
    return attention && awaitsHost(attention) ? this.#awaiting(token, attention) : this.decode(token, attention);
  }

  /** Position of the next token. */
  get end(): number {
    return this.#kv.end;
  }

  /** Drops what lies at `position` or later. */
  truncate(position: number): void {
    this.cache.truncate(position);
  }

  /** A sequence that begins with what `compressor` keeps of this one, in `into`, which is disposed if that fails. */
  async compress(
    into: StreamCache,
    compressor: Compressor,
    queries: LayerQueries,
    signal: AbortSignal | undefined,
  ): Promise<Session> {
    const { decoder, cache } = this;
    try {
      if (!(cache instanceof KvCache))
        throw new OptionError('kv: a prefix that was compressed or coded already cannot be cut down');
      await compressCache({ decoder, from: cache, into, compressor, queries, signal });
      return new Session(decoder, into, signal, undefined, this.shared);
    } catch (error) {
      into.dispose();
      throw error;
    }
  }

  /** Cuts the cache back, if it is time. Between steps; a step that is queued already is not disturbed. */
  async settle(): Promise<void> {
    await this.#eviction?.run();
  }

  dispose(): void {
    this.#eviction?.dispose();
    this.#decode?.recording.dispose();
    this.#decode = undefined;
    this.#attention.dispose();
    this.cache.dispose();
  }

  async #awaiting(token: readonly number[] | Tensor, attention: PhaseAttention): Promise<NextLogits> {
    this.#expectDense();
    const ids = isIds(token) ? fromArray(this.backend, token, [token.length], 'i32') : token.view(token.shape);
    const span = { start: this.#kv.end, count: 1, promptEnd: undefined };
    const plans = this.#attention.plan(attention, span, { recorded: false });
    const kv = scope(() => this.#kv.step(this.#kv.reserve(1)));
    this.#attention.prepare(attention, plans, span);
    const uploaded = this.#attention.upload(plans);
    const step = { count: 1, promptEnd: undefined, lenK: span.start + 1, recall: false };
    const attend = this.#attention.step(attention, plans, uploaded, step);
    try {
      const logits = await this.decoder.stepAwaiting(ids, { kv, attention: attend }, () => {
        throwIfAborted(this.signal);
      });
      const counts = attend.counts();
      if (counts) this.meter.addOnDevice(counts);
      this.#attention.count(span, { phase: attention, plans, denseHeads: attend.denseHeads, recall: false });
      return nextLogits(logits);
    } finally {
      attend.dispose();
      for (const tensor of [ids, ...uploaded]) tensor.dispose();
      kv.dispose?.();
    }
  }

  /** The recording of decode steps under an attention, made anew when another one or other plans come. */
  #recorded(attention: PhaseAttention | undefined, plans: PatternPlans | undefined, reserved: number): RecordedDecode {
    const shapes = JSON.stringify([plans?.units ?? [], this.#kv.shapes]);
    const before = this.#decode;
    if (before?.attention === attention && before?.shapes === shapes) return before;
    before?.recording.dispose();
    const recording = this.backend.record((...[ids, ...rest]: DecodeInputs) =>
      scope(() => {
        const uploaded = rest.slice(reserved);
        const common = { kv: this.#kv.step(rest.slice(0, reserved)), logits: 'last' as const };
        if (!attention || !plans) return this.#decoded(ids, common);
        const none = { lenK: undefined, promptEnd: undefined, recall: false };
        const attend = this.#attention.step(attention, plans, uploaded, { count: 1, ...none });
        try {
          const logits = this.decoder.step(ids, { ...common, attention: attend });
          const counts = attend.counts();
          const counted = { entries: counts?.entries ?? [], denseHeads: attend.denseHeads };
          // A backend that runs the step again makes equal entries again; the meter sums under the first ones.
          if (JSON.stringify(counted) !== JSON.stringify(made.counted)) made.counted = counted;
          return { ...nextLogits(logits), counts: counts?.values };
        } finally {
          attend.dispose();
        }
      }),
    );
    const made: RecordedDecode = { attention, shapes, recording, counted: { entries: [], denseHeads: [] } };
    this.#decode = made;
    return made;
  }

  #decoded(ids: Tensor, step: { readonly kv: StepKv; readonly logits: 'last' }): Decoded {
    if (!this.#eviction || this.#eviction.wanted === 0) return nextLogits(this.decoder.step(ids, step));
    const seen: Tensor[] = [];
    const onQueries = (_: number, q: Tensor): void => {
      seen.push(keep(reshape(q, [1, q.shape[2], q.shape[3]])));
    };
    try {
      return { ...nextLogits(this.decoder.step(ids, { ...step, onQueries })), queries: concat(seen, 0) };
    } finally {
      for (const q of seen) q.dispose();
    }
  }

  #countDecode(
    { attention, counted }: RecordedDecode,
    span: StepSpan,
    plans: PatternPlans | undefined,
    values: Tensor | undefined,
  ): void {
    if (values) this.meter.addOnDevice({ values, entries: counted.entries });
    if (!attention || !plans) this.#countDense(span);
    else this.#attention.count(span, { phase: attention, plans, denseHeads: counted.denseHeads, recall: false });
  }

  /** Counts a step that attends to all entries there are. */
  #countDense(span: StepSpan): void {
    const { start, count } = span;
    for (const [layer, window] of this.decoder.config.windows.entries()) {
      const visible = this.#kv.visible(layer, count);
      this.meter.add(layer, visible === undefined ? { start, count, window } : { start, count, dense: 0, visible });
    }
  }

  /** Reads a prompt with the compressor, which leaves less of it. */
  async #compressed(
    tokens: readonly number[],
    {
      compression,
      cache,
      chunk,
      logits,
      attention,
      hooks,
      onChunk,
    }: SessionPrefill & { readonly compression: PromptCompression; readonly cache: StreamCache; readonly chunk: number },
  ): Promise<Tensor> {
    if (logits === 'all') throw new OptionError('prefill: a prompt that is compressed has logits of its last token only');
    if (attention) this.#expectDense();
    if (hooks) throw new OptionError('prefill: a prompt that is compressed takes no hooks');
    const { decoder, signal } = this;
    const { compressor, every, tokenize } = compression;
    const accumulate = every !== undefined && compressor.accumulates;
    const parts = { decoder, cache, compressor, tokens, chunk, signal, accumulate, onChunk };
    const { repeat } = compressor;
    const next = await (repeat ? repeatedPrefill({ ...parts, repeat, tokenize }) : compressedPrefill(parts));
    this.#attention.count({ start: 0, count: tokens.length, promptEnd: tokens.length });
    if (every !== undefined) this.#eviction = new DecodeEviction(decoder, cache, compressor, every);
    return next;
  }

  /** @throws OptionError where heads keep different entries, or codes, which selectors and patterns do not read. */
  #expectDense(): void {
    if (!(this.cache instanceof KvCache))
      throw new OptionError(
        'attention: a cache that is compressed or coded is attended to densely; leave out either attention, or kv and a coded kvType',
      );
  }

  #withIds<T>(tokens: readonly number[] | Tensor, run: (ids: Tensor) => T): T {
    return this.backend.withSignal(this.shared ? undefined : this.signal, () => {
      if (!isIds(tokens)) return run(tokens);
      const ids = fromArray(this.backend, tokens, [tokens.length], 'i32');
      try {
        return run(ids);
      } finally {
        ids.dispose();
      }
    });
  }
}

/** The most likely token and its logit, for logits [1, vocabulary]. */
export function nextLogits(logits: Tensor): NextLogits {
  return scope(() => {
    const best = argMax(logits);
    return { logits, best, value: takeAlongAxis(logits, reshape(best, [1, 1])) };
  });
}

/** Waits for the last number, so that failures come from here and not from whoever reads first. */
export async function computed(queued: Promise<Tensor>): Promise<Tensor> {
  const logits = await queued;
  const last = logits.view([1], logits.offset + logits.size - 1);
  try {
    await last.read();
    return logits;
  } catch (error) {
    logits.dispose();
    throw error;
  } finally {
    last.dispose();
  }
}

function defaultChunk(attention: PhaseAttention | undefined): number {
  const selects = attention?.some((groups) => groups.some(({ policy }) => policy.kind === 'selector'));
  return selects ? selectorChunkTokens : chunkTokens;
}

function isIds(tokens: readonly number[] | Tensor): tokens is readonly number[] {
  return Array.isArray(tokens);
}
