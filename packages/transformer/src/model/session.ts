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
import { lowerMask, planTensor, type Pattern } from '@filigree/sparse-attention';
import type { Decoder, LogitRows } from './decoder.js';
import { DensityMeter } from './density.js';
import type { Hooks } from './hooks.js';

/** Tokens that one prefill step takes. */
export const chunkTokens = 512;

export interface SessionStep {
  readonly logits: LogitRows;
  readonly pattern?: Pattern | undefined;
  /** Positions of the whole prompt that this step is a part of. */
  readonly promptEnd?: number | undefined;
  readonly hooks?: Hooks | undefined;
}

export interface SessionPrefill {
  /** Rows that get logits: of the last token, or of all. */
  readonly logits: 'last' | 'all';
  readonly pattern?: Pattern | undefined;
  readonly hooks?: Hooks | undefined;
  /** Tokens of a step; default {@link chunkTokens}. */
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

type DecodeInputs = readonly [ids: Tensor, positions: Tensor, slots: Tensor, spans: Tensor, table: Tensor];

/** One sequence: a cache, and the steps that extend it. */
export class Session {
  readonly meter = new DensityMeter();
  #decode: Recording<DecodeInputs, NextLogits> | undefined;

  constructor(
    readonly decoder: Decoder,
    readonly cache: KvCache,
    readonly signal: AbortSignal | undefined,
    private readonly shared = false,
  ) {}

  get backend(): Backend {
    return this.decoder.backend;
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
    const { logits: rows, chunk = chunkTokens, onChunk, ...step } = options;
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
  async forced(tokens: readonly number[], pattern: Pattern | undefined): Promise<Tensor> {
    const all = keep(empty(this.backend, [tokens.length, this.decoder.config.vocabularySize], 'f32'));
    try {
      for (const [index, token] of tokens.entries()) {
        const { logits, best, value } = this.decode([token], pattern);
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
  step(tokens: readonly number[] | Tensor, { logits, pattern, promptEnd, hooks }: SessionStep): Tensor | undefined {
    return this.#withIds(tokens, (ids) => {
      const plan = this.#plan(ids.shape[0], pattern, promptEnd);
      try {
        const at = this.cache.reserve(ids.shape[0]);
        return this.decoder.step(ids, { pool: this.cache.pool, at, logits, plan, hooks });
      } finally {
        plan?.dispose();
      }
    });
  }

  /** Queues the step of one token, recorded once and replayed where its shapes stay the same: without a pattern. */
  decode(token: readonly number[] | Tensor, pattern: Pattern | undefined): NextLogits {
    if (pattern) {
      const logits = this.step(token, { logits: 'last', pattern });
      if (logits) return nextLogits(logits);
    }
    return this.#withIds(token, (ids) => {
      this.#plan(1, undefined, undefined);
      const { positions, slots, spans, table } = this.cache.reserve(1);
      this.#decode ??= this.backend.record((...[input, at, to, entries, pages]: DecodeInputs) =>
        scope(() => {
          const lengths = narrow(reshape(entries, [2]), 1, 1);
          const place = { positions: at, slots: to, lengths, spans: entries, table: pages };
          return nextLogits(this.decoder.step(input, { pool: this.cache.pool, at: place, logits: 'last' }));
        }),
      );
      return this.#decode.replay(ids, positions, slots, spans, table);
    });
  }

  dispose(): void {
    this.#decode?.dispose();
    this.#decode = undefined;
    this.cache.dispose();
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

  /** Counts the step's cells and uploads its plan, when there is a pattern. */
  #plan(count: number, pattern: Pattern | undefined, promptEnd: number | undefined): Tensor | undefined {
    const { windows, heads } = this.decoder.config;
    const start = this.cache.length();
    const lowered =
      pattern &&
      windows.includes(0) &&
      lowerMask(
        pattern({
          batch: 1,
          heads,
          lenQ: [count],
          lenK: [start + count],
          ...(promptEnd === undefined ? {} : { promptEnd: [promptEnd] }),
        }),
      );
    const visible = lowered ? lowered.stats.cells / heads : undefined;
    for (const window of windows) this.meter.add(start, count, { window, visible: window === 0 ? visible : undefined });
    return lowered ? planTensor(this.backend, lowered) : undefined;
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

function isIds(tokens: readonly number[] | Tensor): tokens is readonly number[] {
  return Array.isArray(tokens);
}
