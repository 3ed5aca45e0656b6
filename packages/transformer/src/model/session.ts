import { fromArray, type Backend, type Tensor } from '@filigree/core-tensor';
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

/** One sequence: a cache, and the steps that extend it. */
export class Session {
  readonly meter = new DensityMeter();

  constructor(
    readonly decoder: Decoder,
    readonly cache: KvCache,
    readonly signal: AbortSignal | undefined,
  ) {}

  get backend(): Backend {
    return this.decoder.backend;
  }

  /** Queues a step over ids on the host or on the device (i32 [T]). */
  step(tokens: readonly number[] | Tensor, { logits, pattern, promptEnd, hooks }: SessionStep): Tensor | undefined {
    return this.backend.withSignal(this.signal, () => {
      const ids = isIds(tokens) ? fromArray(this.backend, tokens, [tokens.length], 'i32') : tokens;
      const plan = this.#plan(ids.shape[0], pattern, promptEnd);
      try {
        return this.decoder.step(ids, { cache: this.cache, logits, plan, hooks });
      } finally {
        plan?.dispose();
        if (ids !== tokens) ids.dispose();
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

function isIds(tokens: readonly number[] | Tensor): tokens is readonly number[] {
  return Array.isArray(tokens);
}
