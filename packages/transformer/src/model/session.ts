import {
  argMax,
  fromArray,
  reshape,
  scope,
  takeAlongAxis,
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

/** What a decode step gives, on the device. */
export interface NextLogits {
  /** [1, vocabulary]. */
  readonly logits: Tensor;
  /** i32 [1]: the most likely token. */
  readonly best: Tensor;
  /** [1, 1]: its logit, which is NaN or infinite when any is. */
  readonly value: Tensor;
}

type DecodeInputs = readonly [ids: Tensor, positions: Tensor, slots: Tensor, lengths: Tensor, table: Tensor];

/** One sequence: a cache, and the steps that extend it. */
export class Session {
  readonly meter = new DensityMeter();
  #decode: Recording<DecodeInputs, NextLogits> | undefined;

  constructor(
    readonly decoder: Decoder,
    readonly cache: KvCache,
    readonly signal: AbortSignal | undefined,
  ) {}

  get backend(): Backend {
    return this.decoder.backend;
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
      const { positions, slots, lengths, table } = this.cache.reserve(1);
      this.#decode ??= this.backend.record((...[input, at, to, length, pages]: DecodeInputs) =>
        scope(() => {
          const place = { positions: at, slots: to, lengths: length, table: pages };
          return nextLogits(this.decoder.step(input, { pool: this.cache.pool, at: place, logits: 'last' }));
        }),
      );
      return this.#decode.replay(ids, positions, slots, lengths, table);
    });
  }

  dispose(): void {
    this.#decode?.dispose();
    this.#decode = undefined;
    this.cache.dispose();
  }

  #withIds<T>(tokens: readonly number[] | Tensor, run: (ids: Tensor) => T): T {
    return this.backend.withSignal(this.signal, () => {
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

function isIds(tokens: readonly number[] | Tensor): tokens is readonly number[] {
  return Array.isArray(tokens);
}
