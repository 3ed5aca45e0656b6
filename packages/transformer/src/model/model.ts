import {
  DisposedError,
  OptionError,
  throwIfAborted,
  type Backend,
  type HookedModel,
  type HookedRunOptions,
  type Tensor,
} from '@filigree/core-tensor';
import {
  CodedCache,
  KvCache,
  rawCodec,
  StreamCache,
  type Compressor,
  type KvLayerSpec,
  type RawKvType,
} from '@filigree/kv-cache';
import { phaseAttention, type AttentionOptions } from '../attention/attention-choice.js';
import type { ByteSource } from '@filigree/checkpoint';
import type { ChatTemplate } from '../chat/chat-template.js';
import type { ModelConfig } from '../config/model-config.js';
import { ContextLengthError } from '../errors.js';
import { entriesKept } from '../kv/compressed-prefill.js';
import { kvCompression } from '../kv/kv-choice.js';
import { kvStorage, type KvStorage, type KvType } from '../kv/kv-type.js';
import { pageSize } from '../kv/page-size.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import type { WeightSource } from '../weights/weight-source.js';
import type { Decoder } from './decoder.js';
import { hookNames, Hooks } from './hooks.js';
import { loadPrefix, modelFingerprint, type LoadPrefixOptions } from './prefix-file.js';
import { readPrefix, type Prefix, type PrefillOptions } from './prefix.js';
import { chunkTokens, computed, Session, type Compression, type SequenceCache, type SessionPrefill } from './session.js';

/** A weight and how it runs. */
export interface WeightDescription {
  /** As in GGUF: `blk.0.attn_q.weight`. */
  readonly name: string;
  readonly type: string;
  readonly shape: readonly number[];
  readonly bytes: number;
  /** `tiles`: converted to the native kernels' layout; `file`: the file's own blocks. */
  readonly execution: 'tiles' | 'file';
}

/** Bytes a model takes, by what they are for. */
export interface ModelMemory {
  /** Tensors of the file that the model uses. */
  readonly fileBytes: number;
  /** Copies of weights in the execution layout. */
  readonly repackedBytes: number;
  /** File bytes that are mapped rather than read; they belong to the page cache. */
  readonly mappedBytes: number;
  /** Estimate of the tokenizer's tables. */
  readonly tokenizerBytes: number;
}

export interface LogitsOptions {
  readonly signal?: AbortSignal | undefined;
  /** Sparse attention over the tokens; only `prefill` applies. */
  readonly attention?: AttentionOptions | undefined;
  /** Tokens that one step takes; default 512, with a selector 2,048. */
  readonly prefillChunk?: number | undefined;
}

export interface ModelParts {
  readonly decoder: Decoder;
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate | undefined;
  readonly source: WeightSource;
  readonly fileBytes: number;
  /** Positions a generation may have. */
  readonly context: number;
  readonly kv: KvStorage;
  /** Whether `dispose` ends the backend too. */
  readonly ownsBackend: boolean;
  /** Whose weights these are; undefined: its own. */
  readonly owner?: Model | undefined;
}

/** A loaded decoder language model. Make one with `loadModel`; run it with `generate`, `logits` or `run`. */
export class Model implements HookedModel {
  readonly config: ModelConfig;
  readonly backend: Backend;
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate | undefined;
  /** Positions one sequence may have. */
  readonly context: number;
  readonly #parts: ModelParts;
  #disposed = false;
  #fingerprint: Promise<string> | undefined;

  constructor(parts: ModelParts) {
    this.config = parts.decoder.config;
    this.backend = parts.decoder.backend;
    this.tokenizer = parts.tokenizer;
    this.chatTemplate = parts.chatTemplate;
    this.context = parts.context;
    this.#parts = parts;
  }

  /** Token ids of a text. `special` parses special tokens inside it (default false); `addBos` follows the model when left out. */
  tokenize(text: string, options: { special?: boolean | undefined; addBos?: boolean | undefined } = {}): number[] {
    return this.tokenizer.encode(text, options);
  }

  /** The text of token ids; control tokens are left out unless `special`. */
  detokenize(tokens: ArrayLike<number>, options: { special?: boolean | undefined } = {}): string {
    return this.tokenizer.decode(tokens, options);
  }

  /**
   * Logits [tokens, vocabulary] f32 of a teacher-forced run: row i predicts token i + 1. The caller disposes them.
   * @throws ContextLengthError, OptionError, AbortError
   */
  async logits(tokens: ArrayLike<number>, { signal, attention, prefillChunk }: LogitsOptions = {}): Promise<Tensor> {
    const layers = phaseAttention(attention, 'prefill', this.config, 'logits');
    return this.#forced(tokens, { signal, attention: layers, chunk: prefillChunk });
  }

  /**
   * Reads tokens once, to be continued many times: see {@link Prefix}. The caller disposes it.
   * @throws ContextLengthError, OptionError, AbortError
   */
  async prefill(tokens: ArrayLike<number>, options: PrefillOptions = {}): Promise<Prefix> {
    const { signal, room = 1024, kv } = options;
    throwIfAborted(signal);
    const ids = this.checkTokens(tokens, 'prefill');
    this.#checkLength(ids, 'prefill');
    if (!Number.isInteger(room) || room < 0)
      throw new OptionError(`prefill: room is ${room}, it must be a non-negative integer`);
    // A continuation copies the page that the prefix left unfinished.
    const capacity = ids.length + room + pageSize;
    const session = kv
      ? this.compressedSession(ids.length, capacity, kvCompression(kv, 'prefill'), signal)
      : this.session(capacity, signal, room + pageSize);
    return readPrefix(this, session, { before: [], ids }, options);
  }

  /**
   * A prefix that {@link Prefix.save} wrote, to be continued as it was when it was saved. The caller disposes it.
   * @throws KvMismatchError of another model or type of cache, KvCorruptError naming the broken page, KvFormatError, ContextLengthError, SourceReadError, AbortError
   */
  async loadPrefix(source: string | ByteSource, options: LoadPrefixOptions = {}): Promise<Prefix> {
    this.#assertAlive();
    return loadPrefix(this, source, options);
  }

  /**
   * Name and checksum of the model, for what is kept beyond its life: of configuration, types of weights, norms and a part of the embedding. Weights that differ
   * elsewhere only, by an adapter say, look alike.
   */
  async fingerprint(): Promise<string> {
    this.#assertAlive();
    this.#fingerprint ??= modelFingerprint(this.#parts.decoder);
    return this.#fingerprint;
  }

  hooks(): string[] {
    return hookNames(this.config.layers);
  }

  /**
   * As {@link logits}, with activations read or replaced at the points that {@link hooks} names. Long inputs run in steps of `prefillChunk`
   * tokens; a hook is called once per step.
   */
  async run(tokens: ArrayLike<number>, options: HookedRunOptions & LogitsOptions = {}): Promise<Tensor> {
    const { read = {}, replace = {}, signal, logits, attention, prefillChunk } = options;
    const layers = phaseAttention(attention, 'prefill', this.config, 'run');
    const hooks = new Hooks(read, replace, this.hooks());
    return this.#forced(tokens, { signal, hooks, logits, attention: layers, chunk: prefillChunk });
  }

  /**
   * The same weights, with caches of another type: to compare types, or to have both. It is of use as long as this model is; disposing it frees nothing.
   * @throws OptionError when there is no such type for this model.
   */
  withKvType(kvType: KvType): Model {
    this.#assertAlive();
    const kv = kvStorage(kvType, this.config, 'withKvType');
    return new Model({ ...this.#parts, kv, ownsBackend: false, owner: this });
  }

  /** Bytes that an old entry of a layer takes in caches: keys and values of all heads. */
  get kvEntryBytes(): number {
    const { kvHeads, headDim } = this.config;
    const { dtype, codec } = this.#parts.kv;
    const { k, v } = codec ?? { k: rawCodec(dtype), v: rawCodec(dtype) };
    return kvHeads * (k.bytesPerEntry(headDim, 'keys') + v.bytesPerEntry(headDim, 'values'));
  }

  /** A new sequence of up to `capacity` positions, of which forks may write `room` of their own; `generate` makes its own. */
  session(capacity: number, signal?: AbortSignal, room = 0): Session {
    this.#assertAlive();
    const { codec } = this.#parts.kv;
    const pages = { ...this.cacheLayout(), capacity };
    const raw = pageSize + chunkTokens + room;
    const cache = codec
      ? new CodedCache(this.backend, { ...pages, codec, residual: pageSize, raw })
      : new KvCache(this.backend, pages);
    return this.resume(cache, signal);
  }

  /** A sequence that goes on from what is in a cache of {@link cacheLayout}, which it takes over. `shared`: its pages are others' too; see {@link Session.fork}. */
  resume(cache: SequenceCache, signal?: AbortSignal, shared = false): Session {
    this.#assertAlive();
    return new Session(this.#parts.decoder, cache, signal, undefined, shared);
  }

  /** Whether its caches keep old entries as codes. */
  get codedKv(): boolean {
    return this.#parts.kv.codec !== undefined;
  }

  /** What caches of this model hold. */
  cacheLayout(): { readonly layers: KvLayerSpec[]; readonly pageSize: number; readonly dtype: RawKvType } {
    const { kvHeads, headDim, windows } = this.config;
    const layers = windows.map(() => ({ kHeads: kvHeads, vHeads: kvHeads, kDim: headDim, vDim: headDim }));
    return { layers, pageSize, dtype: this.#parts.kv.dtype };
  }

  /** A new sequence that cuts its prompt of `prompt` tokens down once it was read; see {@link streamCache}. */
  compressedSession(prompt: number, capacity: number, compression: Compression, signal?: AbortSignal): Session {
    if (this.#parts.kv.codec)
      throw new OptionError(
        'kv: entries that heads keep are rows, not codes; load the model with kvType f16 or f32, or leave out kv',
      );
    const { compressor, every } = compression;
    // What is cut back while tokens come never grows beyond that; a fork writes all of it anew when it is cut.
    const most = every === undefined ? capacity : Math.min(capacity, prompt + every + pageSize);
    const cache = this.streamCache(prompt, most, compressor, every === undefined ? 1 : 2);
    const tokenize = (text: string): number[] => this.tokenize(text, { addBos: false });
    return new Session(this.#parts.decoder, cache, signal, { ...compression, tokenize });
  }

  /** Room for what a compressor leaves of `prompt` tokens, and for as many entries as positions up to `capacity` need after them. */
  streamCache(prompt: number, capacity: number, compressor: Compressor, copies = 1): StreamCache {
    this.#assertAlive();
    const { config } = this;
    const { kvHeads, headDim, windows } = config;
    const kept = windows.reduce((sum, _, layer) => sum + entriesKept(config, compressor, prompt, layer), 0);
    // Every stream leaves a page unfinished.
    const entries = copies * kvHeads * (kept + windows.length * (capacity - prompt + pageSize));
    const sizes = { layers: windows.length, kvHeads, kDim: headDim, vDim: headDim };
    return new StreamCache(this.backend, { ...sizes, capacity: entries, pageSize, dtype: this.#parts.kv.dtype });
  }

  /** Every matrix, in the order in which they run. */
  weights(): WeightDescription[] {
    return [...this.#parts.decoder.weights.linears].map(([name, linear]) => ({
      name,
      type: linear.type,
      shape: [linear.outFeatures, linear.inFeatures],
      bytes: linear.byteLength,
      execution: linear.repacked ? 'tiles' : 'file',
    }));
  }

  memory(): ModelMemory {
    const repacked = this.weights().filter(({ execution }) => execution === 'tiles');
    return {
      fileBytes: this.#parts.fileBytes,
      repackedBytes: repacked.reduce((sum, { bytes }) => sum + bytes, 0),
      mappedBytes: this.backend.memory().mappedBytes,
      tokenizerBytes: this.tokenizer.byteLength,
    };
  }

  /** Gives back weights, the file, and the backend when the model made it. Safe to call twice. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (this.#parts.owner) return;
    this.#parts.decoder.dispose();
    void this.#parts.source.close().catch(() => undefined);
    if (this.#parts.ownsBackend) this.backend.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Ids that can be run: whole numbers inside of the vocabulary, at least one. */
  checkTokens(tokens: ArrayLike<number>, caller: string): number[] {
    const ids = Array.from(tokens);
    if (ids.length === 0) throw new OptionError(`${caller}: there are no tokens`);
    const { vocabularySize } = this.config;
    for (const [index, id] of ids.entries()) {
      if (!Number.isInteger(id) || id < 0 || id >= vocabularySize)
        throw new OptionError(`${caller}: token ${index} is ${id}, ids go from 0 to ${vocabularySize - 1}`);
    }
    return ids;
  }

  async #forced(
    tokens: ArrayLike<number>,
    { signal, logits = 'all', ...options }: Omit<SessionPrefill, 'logits'> & Pick<HookedRunOptions, 'logits' | 'signal'>,
  ): Promise<Tensor> {
    throwIfAborted(signal);
    const ids = this.checkTokens(tokens, 'logits');
    this.#checkLength(ids, 'logits');
    const session = this.session(ids.length, signal);
    try {
      return await computed(session.prefill(ids, { ...options, logits }));
    } finally {
      session.dispose();
    }
  }

  #checkLength(ids: readonly number[], caller: string): void {
    if (ids.length > this.context)
      throw new ContextLengthError(`${caller}: ${ids.length} tokens do not fit into the context of ${this.context}`);
  }

  #assertAlive(): void {
    const { owner } = this.#parts;
    if (owner) owner.#assertAlive();
    if (this.#disposed) throw new DisposedError('Model: used after dispose()');
  }
}
