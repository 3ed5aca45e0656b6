import { DisposedError, OptionError } from '@filigree/core-tensor';
import {
  KvCache,
  PagePool,
  PrefixTier,
  radixIndex,
  type CachePolicy,
  type KvTier,
  type PrefixIndex,
  type PrefixTierOptions,
} from '@filigree/kv-cache';
import type { Model } from '../model/model.js';
import type { Session } from '../model/session.js';

export interface PromptCacheOptions {
  /** Entries that what is kept and all generations that run have room for together; default: the model's context. Reserved at once. */
  readonly capacity?: number | undefined;
  /** What goes first when room is short; default `gdsf`. One policy serves one cache. */
  readonly policy?: CachePolicy | undefined;
  /** Where pages go that had to leave, and how many: they come back when a prompt begins with them. Stays open after `dispose()`. */
  readonly tier?: (PrefixTierOptions & { readonly tier: KvTier }) | undefined;
}

/** A sequence that begins with what was known of a prompt. */
export interface KnownPrompt {
  readonly session: Session;
  /** Tokens that need not be read. */
  readonly known: number;
}

/**
 * Keys and values of prompts and answers, for prompts that begin alike: turns of a conversation, questions about one document. Goes into `generate` as
 * `promptCache`; several generations may use it at once. Full pages of 64 entries are found by their tokens, shared, and given up when room is short.
 *
 * Zheng et al., "SGLang: Efficient Execution of Structured Language Model Programs", arXiv:2312.07104.
 */
export class PromptCache {
  readonly #index: PrefixIndex;
  readonly #tier: PrefixTier | undefined;
  #disposed = false;

  /** @throws OptionError for a model whose cache is codes, and a capacity that is no number of entries. */
  constructor(
    readonly model: Model,
    { capacity = model.context, policy, tier }: PromptCacheOptions = {},
  ) {
    if (model.codedKv)
      throw new OptionError('PromptCache: entries are shared as rows, not as codes; load the model with kvType f16 or f32');
    const pool = new PagePool(model.backend, { ...model.cacheLayout(), capacity });
    this.#index = radixIndex(pool, { policy });
    // The index is one of the pool's owners from here on.
    pool.leave();
    this.#tier = tier && new PrefixTier(this.#index, tier.tier, tier);
  }

  /** Entries that are kept. */
  get length(): number {
    return this.#index.size * this.#index.pool.pageSize;
  }

  /** Bytes of what is kept: whole pages. */
  get bytes(): number {
    return this.#index.size * this.#index.pool.pageBytes;
  }

  /** A sequence that begins with the longest prefix of a prompt that is known, short of its last token, whose logits somebody wants. */
  async begin(prompt: readonly number[], signal?: AbortSignal): Promise<KnownPrompt> {
    this.#assertAlive();
    const tokens = prompt.slice(0, -1);
    await this.#tier?.promote(tokens);
    const match = this.#index.match(tokens);
    try {
      const cache = new KvCache(this.model.backend, { pool: this.#index.pool, pages: match.pages });
      return { session: this.model.resume(cache, signal, true), known: match.length };
    } finally {
      match.release();
    }
  }

  /** Keeps what a session of {@link begin} has computed of `tokens`, which it began with and went on with. */
  keep({ cache }: Session, tokens: readonly number[]): void {
    if (this.#disposed || !(cache instanceof KvCache)) return;
    const { pageSize } = this.#index.pool;
    const full = Math.floor(Math.min(cache.length(), tokens.length) / pageSize);
    cache.adopt(this.#index.insert(tokens.slice(0, full * pageSize), cache.pages.slice(0, full)));
  }

  /** Forgets all that no generation uses. */
  clear(): void {
    this.#assertAlive();
    this.#index.clear();
  }

  /** Gives its pages back, once no generation uses them. Safe to call twice. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    void this.#tier?.close();
    this.#index.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #assertAlive(): void {
    if (this.#disposed) throw new DisposedError('PromptCache: used after dispose()');
  }
}
