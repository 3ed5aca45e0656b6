import {
  argMax,
  empty,
  fromArray,
  keep,
  narrow,
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
import type { KvCache } from '@filigree/kv-cache';
import { needsLengths, type PhaseAttention } from '../attention/attention-choice.js';
import type { AttentionMeter, CountEntry } from '../attention/attention-meter.js';
import type { PatternPlans, StepSpan } from '../attention/pattern-plans.js';
import { SequenceAttention } from '../attention/sequence-attention.js';
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
}

export interface SessionPrefill extends Omit<SessionStep, 'logits' | 'promptEnd'> {
  /** Rows that get logits: of the last token, or of all. */
  readonly logits: 'last' | 'all';
  /** Tokens of a step; default {@link chunkTokens}, more with a selector. */
  readonly chunk?: number | undefined;
  /** Called after every step but the last, with the tokens read so far. */
  readonly onChunk?: ((doneTokens: number) => void) | undefined;
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

type DecodeInputs = readonly [ids: Tensor, positions: Tensor, slots: Tensor, spans: Tensor, table: Tensor, ...plans: Tensor[]];

/** A decode step that was recorded, and what it is for. */
interface RecordedDecode {
  readonly attention: PhaseAttention | undefined;
  /** Heads of the step's plans. */
  readonly units: string;
  readonly recording: Recording<DecodeInputs, NextLogits & { readonly counts?: Tensor | undefined }>;
  /** What the step counts on the device, and the heads that attend densely in it. */
  counted: { readonly entries: readonly CountEntry[]; readonly denseHeads: readonly number[] };
}

/** One sequence: a cache, and the steps that extend it. */
export class Session {
  readonly #attention: SequenceAttention;
  #decode: RecordedDecode | undefined;

  constructor(
    readonly decoder: Decoder,
    readonly cache: KvCache,
    readonly signal: AbortSignal | undefined,
    private readonly shared = false,
  ) {
    this.#attention = new SequenceAttention(decoder.config, cache);
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
    return new Session(this.decoder, this.cache.fork(), signal, true);
  }

  /** Reads tokens in steps of `chunk`; resolves with the logits, [1 or tokens, vocabulary], once all steps are queued. The caller disposes them. */
  async prefill(tokens: readonly number[], options: SessionPrefill): Promise<Tensor> {
    const { logits: rows, chunk = defaultChunk(options.attention), onChunk, ...step } = options;
    if (!Number.isInteger(chunk) || chunk < 1)
      throw new OptionError(`prefill: a chunk is ${chunk} tokens, it must be a positive integer`);
    const promptEnd = this.cache.length() + tokens.length;
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
        const { logits, best, value } = this.decode([token], attention);
        writeSlice(all, logits, { axis: 0, start: index });
        for (const tensor of [logits, best, value]) tensor.dispose();
        await this.backend.ready();
        throwIfAborted(this.signal);
      }
      return all;
    } catch (error) {
      all.dispose();
      throw error;
    }
  }

  /** Queues a step over ids on the host or on the device (i32 [T]); undefined when no logits are asked for. */
  step(tokens: readonly number[] | Tensor, step: SessionStep): Tensor | undefined {
    const { logits, attention, promptEnd, hooks, recall = false } = step;
    return this.#withIds(tokens, (ids) => {
      const [count] = ids.shape;
      const span = { start: this.cache.length(), count, promptEnd };
      const { pool } = this.cache;
      if (!attention) {
        const at = this.cache.reserve(count);
        this.#attention.count(span);
        return this.decoder.step(ids, { pool, at, logits, hooks });
      }
      const plans = this.#attention.plan(attention, span, { recorded: false });
      const at = this.cache.reserve(count);
      this.#attention.prepare(attention, plans, span);
      const uploaded = this.#attention.upload(plans);
      const lenK = span.start + count;
      const attend = this.#attention.step(attention, plans, uploaded, { count, promptEnd, lenK, recall });
      try {
        const result = this.decoder.step(ids, { pool, at, logits, attention: attend, hooks });
        const counts = attend.counts();
        if (counts) this.meter.addOnDevice(counts);
        this.#attention.count(span, { phase: attention, plans, denseHeads: attend.denseHeads, recall });
        return result;
      } finally {
        attend.dispose();
        for (const plan of uploaded) plan.dispose();
      }
    });
  }

  /** Queues the step of one token, recorded once and replayed where its shapes stay the same. */
  decode(token: readonly number[] | Tensor, attention?: PhaseAttention): NextLogits {
    if (attention && needsLengths(attention)) {
      const logits = this.step(token, { logits: 'last', attention });
      if (logits) return nextLogits(logits);
    }
    return this.#withIds(token, (ids) => {
      const span = { start: this.cache.length(), count: 1, promptEnd: undefined };
      const plans = attention && this.#attention.plan(attention, span, { recorded: true });
      const { positions, slots, spans, table } = this.cache.reserve(1);
      if (attention && plans) this.#attention.prepare(attention, plans, span);
      const uploaded = plans ? this.#attention.upload(plans) : [];
      try {
        const recorded = this.#recorded(attention, plans);
        const { counts, ...next } = recorded.recording.replay(ids, positions, slots, spans, table, ...uploaded);
        this.#countDecode(recorded, span, plans, counts);
        return next;
      } finally {
        for (const plan of uploaded) plan.dispose();
      }
    });
  }

  dispose(): void {
    this.#decode?.recording.dispose();
    this.#decode = undefined;
    this.#attention.dispose();
    this.cache.dispose();
  }

  /** The recording of decode steps under an attention, made anew when another one or other plans come. */
  #recorded(attention: PhaseAttention | undefined, plans: PatternPlans | undefined): RecordedDecode {
    const units = JSON.stringify(plans?.units ?? []);
    const before = this.#decode;
    if (before?.attention === attention && before?.units === units) return before;
    before?.recording.dispose();
    const recording = this.backend.record((...[ids, positions, slots, spans, table, ...uploaded]: DecodeInputs) =>
      scope(() => {
        const at = { positions, slots, lengths: narrow(reshape(spans, [2]), 1, 1), spans, table };
        const common = { pool: this.cache.pool, at, logits: 'last' as const };
        if (!attention || !plans) return nextLogits(this.decoder.step(ids, common));
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
    const made: RecordedDecode = { attention, units, recording, counted: { entries: [], denseHeads: [] } };
    this.#decode = made;
    return made;
  }

  #countDecode(
    { attention, counted }: RecordedDecode,
    span: StepSpan,
    plans: PatternPlans | undefined,
    values: Tensor | undefined,
  ): void {
    if (values) this.meter.addOnDevice({ values, entries: counted.entries });
    if (!attention || !plans) this.#attention.count(span);
    else this.#attention.count(span, { phase: attention, plans, denseHeads: counted.denseHeads, recall: false });
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
